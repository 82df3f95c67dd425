/* SPDX-License-Identifier: MIT */
/* Which connections become peers, and which of them make room for others. */
#pragma once

struct peers;

/* Makes a peer of a connection, or closes it. */
void admit(struct peers *peers, int fd);
