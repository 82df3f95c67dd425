/* SPDX-License-Identifier: MIT */
/* Closes a descriptor whose last close may wait, without waiting for that. */
#pragma once

#include <stdbool.h>

/*
 * Closes a descriptor so that the last copy is a child's, which nobody waits for. Returns false,
 * with the descriptor still open, if there is no such child.
 */
bool closer_close(int fd);
