/* SPDX-License-Identifier: MIT */
/* Tables on standard output: aligned, and on a terminal as wide as it is. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define TABLE_COLUMNS_MAX 12
#define TABLE_SCRATCH 32

struct table_column {
	const char *heading;
	bool to_the_right; /* numbers, one below the other */
};

struct table {
	const struct table_column *columns;
	int n_columns; /* at most TABLE_COLUMNS_MAX */
	size_t n_rows;
	const void *rows; /* for cell() */
	/* Returns the text of a cell; it may write it into scratch. */
	const char *(*cell)(const void *rows, size_t row, int column, char scratch[TABLE_SCRATCH]);
	/*
	 * Makes columns narrower until table_width() is at most `room`, as far as it makes sense. A
	 * width of 0 leaves the column out.
	 */
	void (*fit)(int *widths, int room);
};

/* The width of a line with columns of these widths. */
int table_width(const int *widths, int n_columns);

/* Prints it. `hidden` is a column that is left out, -1: none. */
void table_print(const struct table *table, int hidden);
