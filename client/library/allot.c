/* SPDX-License-Identifier: MIT */
/* Root's requests about allotments: to make one, and to take one away. Keeps nothing. */
#include "config.h"

#include "client/gpubroker.h"
#include "client/library/claim.h"
#include "client/library/connection.h"
#include "client/wire/passfd.h"

#include <errno.h>
#include <string.h>

_Static_assert(sizeof(struct message_allot) <= PROTOCOL_MESSAGE_MAX, "an allot is too large");

/* Copies a label. Returns false if it has not the form of one. */
static bool set_label(char out[PROTOCOL_LABEL_MAX], const char *label)
{
	const size_t len = strspn(label, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
					 "0123456789._:@-");

	if (!len || label[len] || len >= PROTOCOL_LABEL_MAX)
		return false;
	memcpy(out, label, len);
	return true;
}

int gpubroker_allot(struct gpubroker *handle, const struct gpubroker_claim *claim,
		    const char *label, const struct gpubroker_user *user, uint64_t until)
{
	struct message_allot request = {
		.type = MESSAGE_ALLOT,
		.until = until,
		.uid = user->uid,
		.gid = user->gid,
	};
	const struct message_claim *wanted = claim_request(claim);

	if (!wanted->n_selectors || until > INT64_MAX || !set_label(request.label, label))
		return -EINVAL;
	for (size_t i = 0; i < user->n_groups && i < PROTOCOL_GIDS_MAX; i++)
		request.gids[request.n_gids++] = user->groups[i];
	request.n_selectors = wanted->n_selectors;
	memcpy(request.selectors, wanted->selectors, sizeof(request.selectors));
	return connection_ask(handle, &request, sizeof(request));
}

int gpubroker_allot_socket(struct gpubroker *handle, const char *label, const char *name,
			   const struct gpubroker_user *user, bool *ret_wanted)
{
	struct message_socket request = { .type = MESSAGE_SOCKET,
					  .uid = user->uid,
					  .gid = user->gid };
	union answer answer;
	int r;

	if (!set_label(request.label, label) || strlen(name) >= sizeof(request.name))
		return -EINVAL;
	strcpy(request.name, name);
	for (size_t i = 0; i < user->n_groups && i < PROTOCOL_GIDS_MAX; i++)
		request.gids[request.n_gids++] = user->groups[i];
	r = connection_send(handle, &request, sizeof(request));
	if (!r)
		r = connection_receive_wait(handle, &answer);
	if (r)
		return r;
	if (answer.type == MESSAGE_REFUSAL)
		return connection_refused(handle, &answer.refusal);
	if (answer.type != MESSAGE_END && answer.type != MESSAGE_READY)
		return -EPROTO;
	*ret_wanted = answer.type == MESSAGE_READY;
	return 0;
}

int gpubroker_allot_listener(struct gpubroker *handle, int listener)
{
	const struct message_plain request = { .type = MESSAGE_LISTENER };
	union answer answer;
	int r = passfd_send(handle->fd, &request, sizeof(request), &listener, 1);

	/* A broker that has ended may have said why before. */
	if (r && r != -EPIPE && r != -ECONNRESET)
		return r;
	r = connection_receive_wait(handle, &answer);
	if (r)
		return r;
	if (answer.type == MESSAGE_REFUSAL)
		return connection_refused(handle, &answer.refusal);
	return answer.type == MESSAGE_END ? 0 : -EPROTO;
}

int gpubroker_retract(struct gpubroker *handle, const char *label)
{
	struct message_retract request = { .type = MESSAGE_RETRACT };

	if (!set_label(request.label, label))
		return -EINVAL;
	return connection_ask(handle, &request, sizeof(request));
}
