/*
 * Writes the tables of options and commands down for people. A program of the build, not installed.
 *
 *	option-doc json             the options, for scripts/check-docs
 *	option-doc fill TEMPLATE    a manual page or a script: TEMPLATE with its lines @OPTIONS@, @COMMANDS@ and
 *	                            @COMMAND_NAMES@ replaced
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "ipc/commands.h"
#include "shared/options.h"

static void doc_json_string(const char *key, const char *value, const char *end)
{
	printf("\"%s\": ", key);
	if (!value) {
		printf("null%s", end);
		return;
	}
	putchar('"');
	for (const char *p = value; *p; p++) {
		if (*p == '"' || *p == '\\')
			putchar('\\');
		putchar(*p);
	}
	printf("\"%s", end);
}

static void doc_json(void)
{
	char range[OPTION_WHY_MAX];

	for (size_t i = 0; i < n_option_rows; i++) {
		const struct option_row *o = &option_table[i];
		const struct option_section_info *section = &option_sections[o->section];

		printf("%s{", i ? ",\n " : "[");
		doc_json_string("section", section->name, ", ");
		printf("\"named\": %s, ", section->named ? "true" : "false");
		doc_json_string("key", o->key, ", ");
		doc_json_string("default", o->def, ", ");
		doc_json_string("range", option_range(o, range), ", ");
		doc_json_string("effect", option_effect_text(o->effect), ", ");
		doc_json_string("doc", o->doc, "}");
	}
	puts("]");
}

/* Text of a manual page: no hyphen may become a dash, no line may become a request. */
static void doc_roff(const char *s)
{
	if (*s == '.' || *s == '\'')
		fputs("\\&", stdout);
	for (; *s; s++) {
		if (*s == '-' || *s == '\\')
			putchar('\\');
		if (*s == '\\')
			putchar('e');
		else
			putchar(*s);
	}
}

static void doc_man_option(const struct option_row *o)
{
	char range[OPTION_WHY_MAX];

	printf(".TP\n.B %s\n", o->key);
	doc_roff(o->doc);
	printf("\n.br\nValue: ");
	doc_roff(option_range(o, range));
	if (!o->def)
		printf(".\nRequired.\n");
	else if (*o->def == '\0')
		printf(".\nDefault: empty.\n");
	else {
		printf(".\nDefault:\n.BR \"");
		doc_roff(o->def);
		printf("\" .\n");
	}
	printf("Takes effect: %s.\n", option_effect_text(o->effect));
}

static void doc_man_options(void)
{
	for (size_t i = 0; i < N_SECTIONS; i++) {
		printf(".SS [%s%s]\n", option_sections[i].name,
			option_sections[i].named ? ":NAME" : "");
		doc_roff(option_sections[i].doc);
		putchar('\n');
		for (size_t j = 0; j < n_option_rows; j++)
			if (option_table[j].section == i)
				doc_man_option(&option_table[j]);
	}
}

static void doc_man_commands(void)
{
	for (const struct command_info *c = command_table; c->name; c++) {
		printf(".TP\n.B ");
		doc_roff(c->name);
		if (*c->arguments) {
			putchar(' ');
			doc_roff(c->arguments);
		}
		putchar('\n');
		doc_roff(c->doc);
		printf(c->right == COMMAND_ACT ? "\n" : "\nAlso for those who may only read.\n");
	}
}

static void doc_command_names(void)
{
	for (const struct command_info *c = command_table; c->name; c++)
		printf("        %s\n", c->name);
}

static const struct {
	const char *line;
	void (*write)(void);
} blanks[] = {
	{"@OPTIONS@\n", doc_man_options},
	{"@COMMANDS@\n", doc_man_commands},
	{"@COMMAND_NAMES@\n", doc_command_names},
};

#define N_BLANKS (sizeof(blanks) / sizeof(*blanks))

static void doc_line(const char *line)
{
	for (size_t i = 0; i < N_BLANKS; i++) {
		if (strcmp(line, blanks[i].line) == 0) {
			blanks[i].write();
			return;
		}
	}
	fputs(line, stdout);
}

static int doc_fill(const char *template)
{
	CLEANUP(fclosep) FILE *in = fopen(template, "re");
	CLEANUP(freep) char *line = NULL;
	size_t size = 0;

	if (!in)
		return -errno;
	while (getline(&line, &size, in) >= 0)
		doc_line(line);
	return ferror(in) ? -EIO : 0;
}

int main(int argc, char **argv)
{
	int r;

	if (argc == 2 && strcmp(argv[1], "json") == 0) {
		doc_json();
	} else if (argc == 3 && strcmp(argv[1], "fill") == 0) {
		r = doc_fill(argv[2]);
		if (r < 0) {
			fprintf(stderr, "option-doc: %s: %s\n", argv[2], strerror(-r));
			return 1;
		}
	} else {
		fprintf(stderr, "usage: option-doc json | fill TEMPLATE\n");
		return 1;
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
