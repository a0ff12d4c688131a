/* HTTP/1.1 as a protocol of src/net. */
#pragma once

#include "net/net.h"

extern const struct protocol http_protocol;
