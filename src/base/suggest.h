/* The closest word, for "did you mean". Pure function, any process. */
#pragma once

#include <stddef.h>

const char *suggest_word(const char *wrong, const char *const *words, size_t n_words);
