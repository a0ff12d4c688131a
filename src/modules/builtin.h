/* Descriptors of the modules that come with tined; the table is in the roles that load them. */
#pragma once

#include <tine/module.h>

extern const struct tine_module tine_module_hello;
extern const struct tine_module tine_module_hub;
extern const struct tine_module tine_module_static;
extern const struct tine_module tine_module_whoami;
