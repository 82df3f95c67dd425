/* SPDX-License-Identifier: MIT */
/* Which connections become peers, and which of them make room for others. */
#pragma once

struct allotment;
struct peers;

/* Makes a peer of a connection, or closes it. */
void admit(struct peers *peers, int fd);
/* The same at the socket of an allotment, whose user the peer is, whoever has connected. */
void admit_to(struct peers *peers, int fd, const struct allotment *allotment);
