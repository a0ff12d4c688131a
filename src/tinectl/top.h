/* The live screen. Runs in tinectl. */
#pragma once

#include "tinectl/client.h"

enum tinectl_status top_run(const struct client_options *o, char error[CLIENT_ERROR_MAX * 8]);
