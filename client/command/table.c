/* SPDX-License-Identifier: MIT */
/* Prints tables, see table.h. Owns nothing; control characters in a cell are replaced. */
#include "config.h"

#include "client/command/table.h"
#include "client/command/cli.h"

#include <stdio.h>
#include <string.h>

#define SEPARATOR "  "

int table_width(const int *widths, int n_columns)
{
	int width = 0;

	for (int c = 0; c < n_columns; c++)
		if (widths[c])
			width += widths[c] + (width ? (int)strlen(SEPARATOR) : 0);
	return width;
}

static void measure(const struct table *table, int *widths)
{
	char scratch[TABLE_SCRATCH];

	for (int c = 0; c < table->n_columns; c++) {
		widths[c] = (int)strlen(table->columns[c].heading);
		for (size_t i = 0; i < table->n_rows; i++) {
			int n = (int)strlen(table->cell(table->rows, i, c, scratch));

			widths[c] = n > widths[c] ? n : widths[c];
		}
	}
}

static void print_cell(const char *text, bool to_the_right, int width, bool is_last)
{
	int length = (int)strlen(text);

	if (to_the_right && length < width)
		printf("%*s", width - length, "");
	/* No blanks at the end of a line. */
	cli_print_text(stdout, text, (to_the_right || is_last) && length < width ? length : width);
	fputs(is_last ? "\n" : SEPARATOR, stdout);
}

void table_print(const struct table *table, int hidden)
{
	int widths[TABLE_COLUMNS_MAX], room = cli_columns(stdout), last = 0;
	char scratch[TABLE_SCRATCH];

	measure(table, widths);
	if (hidden >= 0)
		widths[hidden] = 0;
	if (room && table_width(widths, table->n_columns) > room)
		table->fit(widths, room);
	for (int c = 0; c < table->n_columns; c++)
		last = widths[c] ? c : last;
	for (size_t i = 0; i <= table->n_rows; i++) {
		for (int c = 0; c <= last; c++) {
			const char *text = i ? table->cell(table->rows, i - 1, c, scratch)
					     : table->columns[c].heading;

			if (widths[c])
				print_cell(text, table->columns[c].to_the_right, widths[c],
					   c == last);
		}
	}
}
