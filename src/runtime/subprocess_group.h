/* Who is left of a process group. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

bool group_is_alive(pid_t group);
