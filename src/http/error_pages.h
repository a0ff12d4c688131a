/* The operator's own pages for errors. */
#pragma once

#include <tine/http.h>

struct error_pages;

int error_pages_load(const char *folder, struct error_pages **ret, char error[512]);
struct error_pages *error_pages_free(struct error_pages *p);
struct tine_text error_pages_find(const struct error_pages *p, unsigned status);
