/* Where a program lies, and the environment it gets. */
#pragma once

#include <stdbool.h>

int program_find(const char *name, char *const *environment, char ***ret_paths);
int program_environment(
	const char *const *given, const char *add, const char *instead_of, char ***ret);
