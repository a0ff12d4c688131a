/* A folder served over HTTP. */
#pragma once

#include <tine/http.h>

int files_new(const struct tine_files_options *o, struct tine_files **ret);
struct tine_files *files_free(struct tine_files *f);
int files_answer(struct tine_files *f, struct tine_request *rq, struct tine_text path);
