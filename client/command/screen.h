/* SPDX-License-Identifier: MIT */
/*
 * Prints for people: tables whose widths are columns of the terminal, lines below them, colours,
 * which are for a terminal alone and not with NO_COLOR.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/gpubroker.h"

struct libscols_line;
struct libscols_table;

enum tone { TONE_PLAIN, TONE_GOOD, TONE_MIND, TONE_BAD, TONE_DIM };

/* A cell. */
struct screen_text {
	char *text; /* NULL: empty; to be freed */
	enum tone tone;
};

/* Replaces what the cell has. */
void screen_say(struct screen_text *out, enum tone tone, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

struct screen_column {
	const char *name, *heading;
	double width; /* a hint of libsmartcols: below 1, a share of the terminal */
	int flags;    /* SCOLS_FL_... */
};

#define SCREEN_COLUMNS_MAX 16

/* NULL: no memory. The caller gives it to scols_unref_table(). */
struct libscols_table *screen_table_new(void);

/*
 * Adds the columns that are listed, as "gpu,status", to the table. `ret_chosen` gets the index in
 * `columns` of each. 0, or the exit status after the reason was printed.
 */
int screen_table_columns(struct libscols_table *table, const char *command,
			 const struct screen_column *const *columns, size_t n_columns,
			 const char *list, size_t ret_chosen[SCREEN_COLUMNS_MAX], size_t *ret_n);

/*
 * Adds a line of n cells, whose texts it takes over, below `parent` in a tree, or NULL. Returns it,
 * or NULL without memory.
 */
struct libscols_line *screen_table_line(struct libscols_table *table, struct libscols_line *parent,
					struct screen_text *cells, size_t n);

/* Ends cells that the terminal has no room for in "...", before a whole table is printed. */
void screen_table_mark_cut(struct libscols_table *table);

/* Prints a table below a line, indented. 0, or an exit status. */
int screen_table_indented(struct libscols_table *table);

/*
 * Prints text below a line of a table, indented, in lines that fit the terminal. Control characters
 * are replaced.
 */
void screen_note(enum tone tone, const char *text);

/* Prints text as a line, folded where the terminal ends. Control characters are replaced. */
void screen_line(enum tone tone, const char *text);

/* Writes the user's name, or "uid 1000". Returns out. */
#define SCREEN_USER 33
const char *screen_user(uint32_t uid, char out[SCREEN_USER]);

/* The address without the domain if that is 0000. */
const char *screen_address(const char *address);

/* Says the name that is on the box, which hardware databases have in brackets. */
void screen_model(const struct gpubroker_device *device, struct screen_text *out);

/* Shortens it to what a column has room for; no character is cut. */
void screen_shorten(struct screen_text *text);

/* A word for a function that comes along with a GPU: "audio". */
const char *screen_companion(uint32_t class_code);
