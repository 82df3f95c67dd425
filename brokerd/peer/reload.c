/* SPDX-License-Identifier: MIT */
/*
 * Requests about the policy as a whole, see reload.h. It must never let anybody but root have the
 * files read again, and never wait: the peer is answered when the loader has.
 */
#include "config.h"

#include "brokerd/peer/reload.h"
#include "brokerd/state/refuse.h"
#include "brokerd/state/verdict.h"

static void answer(struct peer *peer)
{
	const struct policy_state *policy = peer->peers->policy;
	const struct message_policy_state state = {
		.type = MESSAGE_POLICY_STATE,
		.flags = (policy->good ? POLICY_IN_FORCE : 0) |
			 (policy->mistakes ? POLICY_REFUSED : 0) |
			 (policy->saved ? POLICY_SAVED : 0),
		.loaded = policy->good ? policy->loaded : 0,
		.rules = policy->policy.n_rules,
		.files = policy->policy.n_files,
		.mistakes = policy->mistakes,
	};

	peer_policy_state(peer, &state);
}

int reload_ask(struct peer *peer, const struct message_policy *request,
	       struct message_refusal *ret_refusal)
{
	struct peers *peers = peer->peers;
	uint64_t load = peers->policy->known ? 0 : peers->loads + 1;

	if (request->flags & POLICY_RELOAD && peer->claimant.uid != 0) {
		*ret_refusal = refusal_make(GPUBROKER_REFUSED_NOT_YOURS);
		refusal_say(ret_refusal, "have the policy read again");
		return GPUBROKER_REFUSED_NOT_YOURS;
	}
	if (request->flags & POLICY_RELOAD)
		load = peers->reload(peers->userdata);
	else if (!(request->flags & POLICY_WAIT))
		load = 0;
	if (!load) {
		answer(peer);
		return 0;
	}
	peer->busy = PEER_POLICY;
	peer->awaits_load = load;
	peers->n_awaiting++;
	return 0;
}

void reload_ended(struct peers *peers, uint64_t load)
{
	struct peer *peer;

	peers->loads = load;
	if (!peers->n_awaiting)
		return;
	TAILQ_FOREACH(peer, &peers->list, link)
		if (peer->busy == PEER_POLICY && peer->awaits_load <= load)
			answer(peer);
}
