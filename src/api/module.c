/*
 * tine/module.h: the module's view of its configuration, its worker and the log. Runs in the
 * processes that load modules: workers and the child of `tined --check`.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tine/module.h>

#include "base/log.h"
#include "runtime/module.h"
#include "shared/config.h"
#include "shared/scoreboard.h"

/* The checked value of an option; what was never declared is the module's bug. */
static const struct module_value *find_value(const struct tine_config *config, const char *name)
{
	for (size_t i = 0; i < config->n_values; i++)
		if (strcmp(config->values[i].option->name, name) == 0)
			return &config->values[i];
	log_error("%s:%s asked for option \"%s\", which it did not declare; aborting",
		config->conf->kind, config->conf->name, name);
	abort();
}

const char *tine_config_string(const struct tine_config *config, const char *name)
{
	const struct module_value *v = find_value(config, name);

	if (module_is_text(v->option->type))
		return v->text ? v->text : "";
	log_error("%s:%s asked for option \"%s\" as a string, which it is not; aborting",
		config->conf->kind, config->conf->name, name);
	abort();
}

int64_t tine_config_number(const struct tine_config *config, const char *name)
{
	const struct module_value *v = find_value(config, name);

	if (!module_is_text(v->option->type))
		return v->number;
	log_error("%s:%s asked for option \"%s\" as a number, which it is not; aborting",
		config->conf->kind, config->conf->name, name);
	abort();
}

/* The line to blame: the option's, or its section's when it is at its default. */
static unsigned error_line(const struct tine_config *config, const char *name)
{
	for (size_t i = 0; name && i < config->n_values; i++)
		if (strcmp(config->values[i].option->name, name) == 0 && config->values[i].line > 0)
			return config->values[i].line;
	return config->conf->line;
}

static __attribute__((format(printf, 3, 0))) int config_verror(
	const struct tine_config *config, const char *name, const char *fmt, va_list ap)
{
	/* to the module its configuration is read-only; the text of the error is ours to write */
	char *buf = ((struct tine_config *)(uintptr_t)config)->error;
	int n = snprintf(buf, MODULE_ERROR_MAX, "%s:%u: %s:%s%s%s: ", config->config->path,
		error_line(config, name), config->conf->kind, config->conf->name, name ? "." : "",
		name ? name : "");

	if (n >= 0 && n < MODULE_ERROR_MAX)
		vsnprintf(buf + n, MODULE_ERROR_MAX - (size_t)n, fmt, ap);
	return -EINVAL;
}

int tine_config_error(const struct tine_config *config, const char *name, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	config_verror(config, name, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

const struct tine_config *tine_worker_config(const struct tine_worker *worker)
{
	return &worker->config;
}

int tine_worker_error(struct tine_worker *worker, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	config_verror(&worker->config, NULL, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

unsigned tine_worker_slot(const struct tine_worker *worker)
{
	return worker->slot;
}

uint64_t tine_worker_generation(const struct tine_worker *worker)
{
	return worker->generation;
}

bool tine_worker_on_trial(const struct tine_worker *worker)
{
	return worker->figures && sb_get(worker->figures->on_trial);
}

const char *tine_version(void)
{
	return TINED_VERSION;
}

void tine_log(enum tine_log_level level, const char *fmt, ...)
{
	static const enum log_level levels[] = {[TINE_LOG_ERROR] = LOG_LVL_ERROR,
		[TINE_LOG_WARNING] = LOG_LVL_WARNING,
		[TINE_LOG_INFO] = LOG_LVL_INFO,
		[TINE_LOG_DEBUG] = LOG_LVL_DEBUG};
	va_list ap;

	if ((unsigned)level > TINE_LOG_DEBUG || levels[level] > log_max_level)
		return;
	va_start(ap, fmt);
	log_vline(levels[level], NULL, fmt, ap);
	va_end(ap);
}
