/* The worker role: one loop that accepts, serves and runs modules. */
#pragma once

struct child;
struct module_builtin;

int worker_main(const struct child *c, const struct module_builtin *builtins);
