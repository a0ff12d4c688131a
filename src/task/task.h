/* The task role: runs the tasks of one farm, one after the other. */
#pragma once

struct child;
struct module_builtin;

int task_main(const struct child *c, const struct module_builtin *builtins);
