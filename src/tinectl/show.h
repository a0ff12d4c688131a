/* Records of the daemon for people: tables and blocks. Runs in tinectl. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

void show_status(const json_t *status, FILE *out);
void show_processes(const json_t *list, FILE *out);
void show_crashes(const json_t *list, FILE *out);
void show_event(const json_t *event, FILE *out);
void show_message(const json_t *message, FILE *out);
void show_add_rates(const json_t *before, json_t *now, double seconds);
void show_farms(const json_t *list, FILE *out);
void show_bus(const json_t *list, FILE *out);
/* Prints a line; nothing that was put into it can end it. */
void show_line(FILE *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Text of any number of lines, without what would be more than text to a terminal. */
void show_lines(const char *text, FILE *out);

/* Numbers for people, into the caller's buffer, which is returned. */
const char *show_bytes(double n, char *buf, size_t size);
const char *show_count(double n, char *buf, size_t size);
const char *show_age(double ms, char *buf, size_t size);
const char *show_us(double us, char *buf, size_t size);

/* Members of an object; 0, "" and so on when they are not there or not of that kind. */
double show_number(const json_t *o, const char *key);
const char *show_text(const json_t *o, const char *key);
const json_t *show_member(const json_t *o, const char *key);
int show_is(const json_t *o, const char *key);
