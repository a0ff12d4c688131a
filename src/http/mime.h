/* Content types by file name. One table per process, shared by all folders that are served. */
#pragma once

#include <stddef.h>

#include <tine/http.h>

#define MIME_TYPE_MAX 128 /* bytes of a type with its charset, NUL included */

int mime_ref(const char *path);
void mime_unref(void);
size_t mime_type(struct tine_text name, char buf[MIME_TYPE_MAX]);
