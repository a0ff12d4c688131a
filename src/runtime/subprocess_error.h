/* What a child could not be started for, in words. */
#pragma once

#include <stddef.h>

#include "runtime/subprocess_launch.h"

void launch_explain(const struct launch *l, const char *program, enum launch_step step, int error,
	char *ret, size_t size);
