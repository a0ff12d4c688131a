/*
 * tined-symbolize: addresses -> names. Runs as a short-lived process of its own, started by the primary without privileges and with
 * bounds on its time and memory, since what it reads are files of whoever wrote a module. It alone is linked with libdw.
 *
 * In: lines of PATH+0xADDRESS, the innermost frame first. Out: "#0 name (file.c:12) in object", as far as it can be found out.
 */
#include <elfutils/libdwfl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/backtrace.h"

#define LINES_MAX 24

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Where debug information lies in a file of its own. That of the C library is large, and its names alone will do. */
static int find_debuginfo(Dwfl_Module *m, void **data, const char *name, Dwarf_Addr base,
	const char *file, const char *link, GElf_Word crc, char **ret_name)
{
	if (strncmp(last_part(name), "libc.so", 7) == 0)
		return -1;
	return dwfl_standard_find_debuginfo(m, data, name, base, file, link, crc, ret_name);
}

static const Dwfl_Callbacks callbacks = {
	.find_debuginfo = find_debuginfo,
	.section_address = dwfl_offline_section_address,
	.find_elf = dwfl_build_id_find_elf,
};

static Dwfl_Module *open_module(Dwfl *dwfl, const char *path)
{
	Dwfl_Module *m;

	dwfl_report_begin_add(dwfl);
	m = dwfl_report_offline(dwfl, path, path, -1);
	dwfl_report_end(dwfl, NULL, NULL);
	return m;
}

/* Below these there is only how the process came to be. */
static bool is_bottom(const char *name)
{
	static const char *const mains[] = {
		"worker_main", "task_main", "admin_main", "bridge_main"};

	for (size_t i = 0; name && i < sizeof(mains) / sizeof(*mains); i++) {
		if (strcmp(name, mains[i]) == 0)
			return true;
	}
	return false;
}

/* Returns false when no other frame is of interest. */
static bool describe(Dwfl_Module *m, const char *path, unsigned long address)
{
	GElf_Addr bias = 0;
	const char *name, *file = NULL;
	Dwfl_Line *line;
	int number = 0;

	if (!m || !dwfl_module_getelf(m, &bias)) {
		printf("0x%lx in %s\n", address, path);
		return true;
	}
	name = dwfl_module_addrname(m, address + bias);
	line = dwfl_module_getsrc(m, address + bias);
	if (line)
		file = dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL);
	if (name)
		printf("%s", name);
	else
		printf("0x%lx", address);
	if (file)
		printf(" (%s:%d)", last_part(file), number);
	printf(" in %s\n", last_part(path));
	return !is_bottom(name);
}

/* A path may hold plus signs. */
static bool resolve(Dwfl *dwfl, char *line, unsigned number)
{
	static char known[PATH_MAX];
	static Dwfl_Module *module;
	char *plus = strrchr(line, '+');

	printf("#%u ", number);
	if (!plus || plus == line) {
		printf("%s\n", line);
		return true;
	}
	*plus = '\0';
	if (strcmp(known, line) != 0) {
		snprintf(known, sizeof(known), "%s", line);
		module = *line == '/' ? open_module(dwfl, line) : NULL;
	}
	return describe(module, line, strtoul(plus + 1, NULL, 16));
}

int main(int argc, char **argv)
{
	char text[BACKTRACE_TEXT + 1], *rest = text, *line;
	unsigned n = 0;
	Dwfl *dwfl;

	if (argc != 1 || isatty(STDIN_FILENO)) {
		fputs("usage: tined-symbolize < FRAMES (lines of PATH+0xADDRESS, as in tined's "
		      "log)\n",
			stderr);
		return EXIT_FAILURE;
	}
	text[fread(text, 1, BACKTRACE_TEXT, stdin)] = '\0';
	dwfl = dwfl_begin(&callbacks);
	if (!dwfl)
		return EXIT_FAILURE;
	while ((line = strsep(&rest, "\n")) && n < LINES_MAX) {
		if (*line && !resolve(dwfl, line, n++))
			break;
		fflush(stdout); /* we may be killed over the next one */
	}
	dwfl_end(dwfl);
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
