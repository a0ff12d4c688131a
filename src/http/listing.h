/* The page that shows what is in a folder. Any thread. */
#pragma once

#include <stddef.h>

#include <tine/http.h>

#define LISTING_MAX  4096 /* entries shown */
#define LISTING_TYPE "text/html; charset=utf-8"

int listing_make(int folder, struct tine_text path, char **ret_text, size_t *ret_len);
