/* For tests that not every machine allows. */
#pragma once

#include <stdio.h>

/* Ends the test unless the condition holds, and says so: Check knows no skipped ones. */
#define NEEDS(condition)                                                                  \
	do {                                                                              \
		if (!(condition)) {                                                       \
			fprintf(stderr, "%s: skipped: needs %s\n", __func__, #condition); \
			return;                                                           \
		}                                                                         \
	} while (0)
