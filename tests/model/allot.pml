/* SPDX-License-Identifier: MIT */
/*
 * Allotments and what crashes do to them, for Spin: one device, which root allots to the first user and takes
 * away again, while both users claim it. The lease is that of lease.pml, as far as an allotment sees it. What
 * brokerd/claim/allot.c does is written here by hand, step by step between two system calls: a change of the
 * order of its steps has to be made here too.
 *
 * Everything that happens is bounded. MUTANT_... break the broker on purpose; each must be found.
 */

#ifdef FEW
#define CRASHES 1
#define CLAIMS 1
#else
#define CRASHES 3
#define CLAIMS 2
#endif

/* The allotment, on record and in the table. */
#define NONE 0
#define ALLOTTED 1
#define RETRACTING 2
/* The lease. */
#define NO_LEASE 0
#define TAKEN_UP 1 /* found in the records */
#define MADE 2	   /* its claim is under way */
#define GRANTED 3
#define ENDING 4 /* revoked, or its holder has let go: the host gets it back */
/* Root's requests, and the answers. */
#define NOTHING 0
#define ALLOT 1
#define RETRACT 2
#define OK 1
#define REFUSED 2
#define LOST 3 /* the connection has ended */

/* ---- outlives the core ---- */

byte allotment_record;
bool lease_record, label_record;
byte owner_record;
byte holder; /* the user who has the device; 0: nobody */
bool labelled; /* ... by the allotment */

/* ---- the core's ---- */

byte allotment, lease, owner;
bool label, up;
byte claim[3]; /* of each user: 1: asked for */

/* ---- root's ---- */

byte request, answer;
bool promised; /* root was told that it is in force, and has not asked for it back */
bool gone;     /* root was told that it is gone */

byte crashes = CRASHES;

#define may_die                                                                                    \
	if                                                                                         \
	:: crashes > 0 -> crashes--; goto dead                                                     \
	:: true                                                                                    \
	fi

active proctype Core()
{
	byte user;

start:
	atomic {
		allotment = allotment_record;
		lease = (lease_record -> TAKEN_UP : NO_LEASE);
		label = label_record;
		owner = owner_record;
		up = true
	}
	may_die;
#ifndef MUTANT_FORGETS_TO_GO_ON
	if
	:: allotment == RETRACTING -> goto revoke
	:: else
	fi;
#endif
end_serve:
	do
	:: request == ALLOT ->
		if
		:: allotment == ALLOTTED -> atomic { request = NOTHING; answer = OK }
		:: allotment == RETRACTING || lease != NO_LEASE ->
			atomic { request = NOTHING; answer = REFUSED }
		:: else ->
#ifdef MUTANT_ANSWERS_FIRST
			atomic { request = NOTHING; answer = OK };
			may_die;
#endif
			allotment_record = ALLOTTED;
			may_die;
			allotment = ALLOTTED;
#ifndef MUTANT_ANSWERS_FIRST
			atomic { request = NOTHING; answer = OK }
#endif
		fi
	:: request == RETRACT ->
		if
		:: allotment == NONE -> atomic { request = NOTHING; answer = OK }
		:: else ->
#ifdef MUTANT_FORGETS_FIRST
			allotment_record = NONE;
#else
			allotment_record = RETRACTING;
#endif
			may_die;
			allotment = RETRACTING;
			atomic { request = NOTHING; answer = OK };
			goto revoke
		fi
	:: lease == NO_LEASE && claim[1] ->
		atomic {
			claim[1] = 0;
			if
			:: allotment == ALLOTTED -> lease = MADE; owner = 1; label = true
			:: else /* no other rule allows it to this user */
			fi
		}
	:: lease == NO_LEASE && claim[2] ->
		atomic {
			claim[2] = 0;
			if
			:: allotment == NONE -> lease = MADE; owner = 2; label = false
			:: else /* reserved, whatever rules say */
			fi
		}
	:: lease == MADE && !lease_record ->
		atomic { lease_record = true; label_record = label; owner_record = owner };
		may_die
	:: lease == MADE && lease_record ->
		atomic { holder = owner; labelled = label; lease = GRANTED };
		may_die
	:: lease == TAKEN_UP ->
		if
		:: holder -> lease = GRANTED
		:: else -> lease = ENDING
		fi
	:: lease == GRANTED && !holder -> lease = ENDING
	:: lease == ENDING && !holder -> /* a restore waits for the holder */
		atomic { lease_record = false; label_record = false };
		may_die;
		lease = NO_LEASE;
		if
		:: allotment == RETRACTING -> goto finish
		:: else
		fi
	od;
revoke:
	if
	:: lease != NO_LEASE && label -> lease = ENDING; goto end_serve
	:: else
	fi;
finish:
	if
	:: lease == NO_LEASE || !label ->
		allotment_record = NONE;
		may_die;
		allotment = NONE
	:: else
	fi;
	goto end_serve;
dead:
	atomic {
		up = false;
		allotment = NONE;
		lease = NO_LEASE;
		label = false;
		claim[1] = 0;
		claim[2] = 0;
		if
		:: request != NOTHING -> request = NOTHING; answer = LOST
		:: else
		fi
	};
	goto start
}

active proctype Root()
{
	/* Allots, and asks again if it does not learn what became of it. */
again:
	request = ALLOT;
	atomic {
		answer != NOTHING;
		if
		:: answer == OK -> promised = true
		:: else
		fi
	};
	if
	:: answer == LOST -> answer = NOTHING; goto again
	:: else -> answer = NOTHING
	fi;
back:
	atomic { promised = false; request = RETRACT };
	answer != NOTHING;
	if
	:: answer == LOST -> answer = NOTHING; goto back
	:: else -> answer = NOTHING
	fi;
	/* It looks until the allotment is listed no more. A broker that has ended is asked again. */
	if
	:: up && allotment == NONE -> gone = true
	:: !up -> goto back
	fi
}

proctype User(byte me)
{
	byte n;

	for (n : 1 .. CLAIMS) {
		up -> claim[me] = 1;
		!claim[me]
	}
}

init
{
	run User(1);
	run User(2)
}

/* Whoever holds it lets go some time, asked or not. */
active proctype Holders()
{
end:
	do
	:: holder -> atomic { holder = 0; labelled = false }
	od
}

#define broken                                                                                     \
	((promised && holder == 2) || (holder == 2 && labelled) || (holder == 1 && !labelled) ||   \
	 (lease_record && label_record && allotment_record == NONE) || (gone && labelled))

active proctype Always()
{
end:
	atomic { broken -> assert(false) }
}

/* Nothing is left. */
active proctype AtLast()
{
	timeout;
	assert(allotment_record == NONE && allotment == NONE && !lease_record && !holder && gone)
}
