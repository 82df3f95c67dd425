/* SPDX-License-Identifier: MIT */
/*
 * Leases and what the kernel, crashes and peers do to them, for Spin. The table of states and events
 * is not written here: tests/model/run makes transitions.pml of brokerd/state/lease.c. What the handlers of
 * brokerd/claim/ and brokerd/lease/ do with it is written here by hand, function by function: a change of
 * their order of steps has to be made here too. It must never know more than the broker can: a
 * handler reads the kernel only by what sysfs, open() and inotify tell, and what only the core knows
 * is gone after a crash.
 *
 * Everything that happens is bounded (claims, crashes, faults), so that a run which never ends is a
 * fault that is found as a cycle, and "every lease ends" is said of each run's last state.
 *
 * MUTANT_... break the broker on purpose; each must be found.
 */

#define CRASHES 2 /* at most, in any run */

#include "transitions.pml"

#define GROUPS 2
#define PEERS 2

/* ---- the kernel's: outlives the core ---- */

/*
 * A group of two functions, seen together. PART: one of them is on VFIO, so there is a group to open,
 * but not every `driver` link says so; also while a removal from VFIO sleeps.
 */
#define ON_HOST 0
#define ON_NONE 1
#define ON_PART 2
#define ON_VFIO 3
/* Group 0 was on its host driver when it was claimed; group 1 on VFIO, where it is to stay. */
#define was(g) (g == 0 -> ON_HOST : ON_VFIO)
byte driver[GROUPS];
bool override[GROUPS]; /* another than before the claim */

/* Who has the group's one open file. */
#define NOBODY 0
/* 1 .. PEERS: a peer, or a packet on its way to it */
#define BROKER 8
#define CLOSING 9 /* inotify has spoken, but open() still says EBUSY */
byte file[GROUPS];
bool in_use[GROUPS]; /* its holder has a device open: taking that from VFIO sleeps */

/* Writes inside of the kernel, in the order of the device's lock. A worker's death does not stop them. */
mtype = { OVERRIDE_SET, OVERRIDE_BACK, UNBIND_HOST, UNBIND_VFIO, PROBE, BIND_HOST };
chan lock[GROUPS] = [CRASHES + 1] of { mtype };
bool refuses[GROUPS]; /* the host driver does not take it, now and for ever */

/* The state directory. */
bool record[GROUPS];
byte recorded_owner[GROUPS];

/* ---- the core's: gone after a crash ---- */

byte state[GROUPS];
byte claimer[GROUPS]; /* of the claim under way that the lease is part of; 0: none */
bool watched[GROUPS], closed[GROUPS]; /* inotify: a watch, and an event that is to be read */
bool copy[GROUPS];		      /* the group was sent, but is open here still */
byte sent;			      /* to whom */
bool taken_up[GROUPS]; /* found in the records: looked at by and by */
bool recalled[GROUPS]; /* not regained: the holder may still be there */
bool retry[GROUPS];

/* The worker at a group; it dies with the core, but not what it has in `lock`. */
#define AT_NOTHING 0
#define AT_BIND 1
#define AT_OVERRIDE 2 /* of the first half of restoring, the first step */
#define AT_TAKE_OFF 3
#define AT_GIVE_BACK 4
byte work[GROUPS];
byte left[GROUPS];	/* its steps that are still to come */
bool inside[GROUPS];	/* a step is in `lock`: the last there */
#define RUNS 0
#define DONE 1
#define FAILED 2
byte ended[GROUPS];
#ifdef MUTANT_WORKER_OUTLIVES
bool stray[GROUPS]; /* a worker that did not hear of its core's death, before its first step */
#endif

/* A peer's connection. */
byte request[PEERS + 1]; /* a bit for each group wanted */
#define PATIENT 1
#define IMPATIENT 2 /* may go away while it waits */
byte connected[PEERS + 1];
bool abandoned[PEERS + 1], failed[PEERS + 1];
bool alive; /* there is a process */
bool up;    /* that serves: all records are read */

/*
 * Left of what may happen. Chosen at first, and not more than it takes: what is always possible would
 * cure each fault before the last state, where it is looked for.
 */
byte claims, crashes, recalls, faults;

/* ---- what must hold at every moment ---- */

#define held(g) (file[g] >= 1 && file[g] <= PEERS)
#define as_before(g) (driver[g] == was(g) && !override[g])

/* Nothing is changed, lent or being written that the state directory does not know. */
#define known(g)                                                                                   \
	(record[g] || (as_before(g) && !held(g) && len(lock[g]) == 0 && work[g] == AT_NOTHING))
/* Who holds a group is who the record says. */
#define rightful(g) (!held(g) || recorded_owner[g] == file[g])
/* A group that may be claimed is the host's, and nobody else's. */
#define free_is_free(g)                                                                            \
	(!up || state[g] != HOST ||                                                                \
	 (!record[g] && as_before(g) && file[g] != BROKER && !held(g) && len(lock[g]) == 0 &&      \
	  work[g] == AT_NOTHING))

inline check()
{
	assert(known(0) && known(1));
	assert(rightful(0) && rightful(1));
	assert(free_is_free(0) && free_is_free(1));
}

/* ---- the kernel and the workers ---- */

/* A reference to the group's file is closed. */
inline let_go(g)
{
	in_use[g] = false;
	if
	:: copy[g] -> file[g] = BROKER /* which has the last reference now */
	:: else ->
		file[g] = CLOSING;
		closed[g] = closed[g] || watched[g]
	fi
}

/* A write returns. The last in the lock may be a living worker's; all before are orphans'. */
inline returns(g, how)
{
	if
	:: inside[g] && len(lock[g]) == 0 ->
		inside[g] = false;
		if
		:: how == FAILED -> ended[g] = FAILED
		:: how != FAILED && work[g] == AT_OVERRIDE ->
			work[g] = AT_TAKE_OFF;
			if
			:: left[g] == 0 -> ended[g] = DONE
			:: else
			fi
		:: else ->
			left[g]--;
			if
			:: left[g] == 0 -> ended[g] = DONE
			:: else
			fi
		fi
	:: else
	fi
}

proctype kernel(byte g)
{
	mtype op;
	byte how;
end:
	do
	/* A worker begins its next step, which from here on cannot be stopped. */
	:: atomic {
		alive && work[g] != AT_NOTHING && ended[g] == RUNS && !inside[g] ->
			if
			:: work[g] == AT_BIND && left[g] == 4 -> op = OVERRIDE_SET
			:: work[g] == AT_BIND && left[g] == 3 -> op = UNBIND_HOST
			:: work[g] == AT_BIND && left[g] <= 2 -> op = PROBE
			:: work[g] == AT_OVERRIDE -> op = OVERRIDE_BACK
			:: work[g] == AT_TAKE_OFF -> op = UNBIND_VFIO
			:: work[g] == AT_GIVE_BACK -> op = (was(g) == ON_HOST -> BIND_HOST : PROBE)
			fi;
			lock[g]!op;
			inside[g] = true;
			op = 0;
			check()
	   }
	/* The first in the lock takes effect, unless it sleeps until a holder lets go. */
	:: atomic {
		len(lock[g]) > 0 &&
		!(lock[g]?[UNBIND_VFIO] && driver[g] == ON_PART && in_use[g]) ->
			lock[g]?op;
			how = DONE;
			if
			:: faults > 0 -> faults--; how = FAILED
			:: faults > 0 && op == PROBE -> faults--; op = 0 /* says yes, did nothing */
			:: faults > 0 && op == BIND_HOST -> faults--; refuses[g] = true
			:: true
			fi;
			if
			:: how == FAILED || op == 0
			:: else ->
				if
				:: op == OVERRIDE_SET -> override[g] = true
				:: op == OVERRIDE_BACK -> override[g] = false
				:: op == UNBIND_HOST && driver[g] == ON_HOST -> driver[g] = ON_NONE
				:: op == UNBIND_VFIO && driver[g] == ON_VFIO -> driver[g] = ON_PART
				:: op == UNBIND_VFIO && driver[g] == ON_PART ->
					/* An idle file is dead from now on: it says ENODEV to everything. */
					driver[g] = ON_NONE;
					file[g] = NOBODY;
					watched[g] = false
				:: op == PROBE && driver[g] == ON_NONE ->
					driver[g] = (was(g) == ON_VFIO || override[g] -> ON_PART : ON_HOST)
				:: op == PROBE && driver[g] == ON_PART && (was(g) == ON_VFIO || override[g]) ->
					driver[g] = ON_VFIO
				:: op == BIND_HOST && driver[g] == ON_NONE && !override[g] && !refuses[g] ->
					driver[g] = ON_HOST
				:: else -> how = (op == PROBE -> DONE : FAILED)
				fi
			fi;
			returns(g, how);
			op = 0;
			how = 0;
			check()
	   }
	:: atomic { file[g] == CLOSING -> file[g] = NOBODY; check() }
#ifdef MUTANT_WORKER_OUTLIVES
	:: atomic { stray[g] && nfull(lock[g]) -> lock[g]!OVERRIDE_SET; stray[g] = false; check() }
#endif
	od
}

/* ---- peers ---- */

proctype peer(byte p)
{
end:
	do
	:: atomic {
		claims > 0 && up && !connected[p] && !abandoned[p] && claimer[0] != p &&
		claimer[1] != p && file[0] != p && file[1] != p ->
			claims--;
			if
			:: connected[p] = PATIENT
			:: connected[p] = IMPATIENT
			fi;
			if
			:: request[p] = 1
			:: request[p] = 2
			:: request[p] = 3
			fi
	   }
	/* Gone before it has an answer. */
	:: atomic {
		connected[p] == IMPATIENT ->
			connected[p] = 0;
			abandoned[p] = (request[p] == 0);
			request[p] = 0
	   }
	:: atomic { file[0] == p && !in_use[0] && driver[0] == ON_VFIO -> in_use[0] = true }
	:: atomic { file[1] == p && !in_use[1] && driver[1] == ON_VFIO -> in_use[1] = true }
	:: atomic { file[0] == p -> let_go(0); check() }
	:: atomic { file[1] == p -> let_go(1); check() }
	od
}

/* ---- the core ---- */

/* It may be killed here. */
inline die()
{
	if
	:: crashes > 0 -> crashes--; alive = false; up = false; goto dead
	:: true
	fi
}

/* Sometimes something does not work. */
inline may_fail(flag)
{
	if
	:: faults > 0 -> faults--; flag = true
	:: flag = false
	fi
}

/* state/lease.c, lease_transition() */
inline advance(g, event)
{
	next = NEXT(state[g], event);
	moved = (next != 0);
	if
	:: moved -> state[g] = next
	:: else
	fi;
	next = 0
}

inline start_work(g, what, steps)
{
	die();
	work[g] = what;
	left[g] = steps;
	may_fail(bad);
	ended[g] = (bad -> FAILED : RUNS);
	bad = false
}

/* lease/restore.c, lease_restore(). Its first step takes the device's lock, be there anything to change or not. */
inline restore(g)
{
#ifdef MUTANT_FORGETS_FIRST
	record[g] = false;
#endif
#ifdef MUTANT_KEEPS_VFIO /* what was on VFIO before is left there, also from under a holder */
	steps = (was(g) == ON_HOST -> (driver[g] >= ON_PART -> driver[g] - 1 : 0) : 0);
#else
	steps = (was(g) == ON_HOST || recalled[g] -> (driver[g] >= ON_PART -> driver[g] - 1 : 0) : 0);
#endif
	start_work(g, AT_OVERRIDE, steps);
	steps = 0
}

/* lease/restore.c, finish_restore() and forget_lease(). `again` is the claim that is to be looked at. */
inline restore_over(g, what)
{
	again = claimer[g];
	if
	:: what ->
		advance(g, LEASE_FAILED);
		retry[g] = true
	:: else ->
		claimer[g] = 0;
		advance(g, LEASE_RESTORED);
		if
		:: state[g] == HOST ->
			die();
			record[g] = false;
			recorded_owner[g] = 0;
			die();
			file[g] = (file[g] == BROKER -> NOBODY : file[g]);
			forget(g)
		:: else
		fi
	fi
}

inline forget(g)
{
	state[g] = HOST;
	claimer[g] = 0;
	watched[g] = false;
	closed[g] = false;
	copy[g] = false;
	taken_up[g] = false;
	recalled[g] = false;
	retry[g] = false
}

/* lease/functions.c, add_give_back(): the later steps of the worker that restores. */
inline give_back(g)
{
	if
	:: driver[g] == was(g) ->
		work[g] = AT_NOTHING;
		restore_over(g, !as_before(g))
	:: else ->
		start_work(g, AT_GIVE_BACK,
			   (was(g) == ON_VFIO -> ON_VFIO - (driver[g] == ON_HOST -> ON_NONE : driver[g]) : 1))
	fi
}

#define mine(g, p) (claimer[g] == p)
#define is_ready(g, p) (!mine(g, p) || state[g] == READY)
#define under_way(g, p) (mine(g, p) && state[g] != STUCK && state[g] != READY && work[g] != AT_NOTHING)
#define not_on_its_way(g, p)                                                                       \
	(mine(g, p) && work[g] == AT_NOTHING && state[g] != RESTORING && state[g] != STUCK &&      \
	 NEXT(state[g], LEASE_ABANDON) != 0)

/* claim/grant.c, claim_grant(): open each, look, watch, send in one packet. Closed in the next turn. */
inline open_one(g, p)
{
	if
	:: mine(g, p) && !failed[p] ->
		die();
		may_fail(bad);
		if
		:: !bad && file[g] == NOBODY && driver[g] >= ON_PART ->
			file[g] = BROKER;
			die();
			may_fail(bad);
			if
			:: !bad && driver[g] == ON_VFIO -> watched[g] = true; closed[g] = false
			:: else -> failed[p] = true
			fi
		:: else -> failed[p] = true
		fi;
		bad = false
	:: else
	fi
}

inline close_one(g, p)
{
	if
	:: mine(g, p) ->
		watched[g] = false;
		file[g] = (file[g] == BROKER -> NOBODY : file[g])
	:: else
	fi
}

/* The moment for which all this is made. */
inline send_one(g, p)
{
	if
	:: mine(g, p) ->
		assert(state[g] == READY && file[g] == BROKER && driver[g] == ON_VFIO);
		assert(work[g] == AT_NOTHING && len(lock[g]) == 0 && record[g]);
		file[g] = p;
		copy[g] = true
	:: else
	fi
}

inline grant(p)
{
	open_one(0, p);
	open_one(1, p);
	die();
	may_fail(bad);
	if
	:: !failed[p] && !bad && connected[p] ->
		send_one(0, p);
		send_one(1, p);
		connected[p] = 0;
		sent = p
	:: else ->
		failed[p] = true;
		close_one(0, p);
		close_one(1, p)
	fi;
	bad = false
}

/* claim/claim.c, claim_advance() */
inline claim_advance(p)
{
	if
	:: p != 0 && (mine(0, p) || mine(1, p)) && !failed[p] && is_ready(0, p) && is_ready(1, p) -> grant(p)
	:: else
	fi;
	if
	:: p == 0 || !failed[p] || under_way(0, p) || under_way(1, p)
	:: else ->
		if
		:: not_on_its_way(0, p) -> advance(0, LEASE_ABANDON); restore(0)
		:: !not_on_its_way(0, p) && not_on_its_way(1, p) -> advance(1, LEASE_ABANDON); restore(1)
		:: else ->
			if
			:: (mine(0, p) && state[0] != STUCK) || (mine(1, p) && state[1] != STUCK)
			:: else ->
				claimer[0] = (mine(0, p) -> 0 : claimer[0]);
				claimer[1] = (mine(1, p) -> 0 : claimer[1]);
				failed[p] = false;
				abandoned[p] = false;
				connected[p] = 0
			fi
		fi
	fi
}

/* claim/begin.c, begin_leases() */
inline begin_one(g, p)
{
	if
	:: (request[p] & (1 << g)) && !failed[p] ->
		advance(g, LEASE_CLAIMED);
		claimer[g] = p;
		die();
		may_fail(bad);
		failed[p] = bad;
		record[g] = !bad;
		recorded_owner[g] = (bad -> 0 : p);
		bad = false
	:: else
	fi
}

inline unbegin_one(g, p)
{
	if
	:: mine(g, p) ->
		die();
		record[g] = false;
		recorded_owner[g] = 0;
		forget(g)
	:: else
	fi
}

/* lease/bringup.c, lease_make() */
inline bind_one(g, p)
{
	if
	:: mine(g, p) && !failed[p] && driver[g] == ON_VFIO -> advance(g, LEASE_BOUND)
	:: mine(g, p) && !failed[p] && driver[g] != ON_VFIO ->
		may_fail(bad);
		if
		:: bad -> failed[p] = true; bad = false
		:: else ->
			die();
			work[g] = AT_BIND;
			left[g] = 4;
			ended[g] = RUNS
		fi
	:: else
	fi
}

#define wants_busy(g, p) ((request[p] & (1 << g)) && state[g] != HOST)

inline claim(p)
{
	if
	:: wants_busy(0, p) || wants_busy(1, p) -> connected[p] = 0
	:: else ->
		begin_one(0, p);
		begin_one(1, p);
		if
		:: failed[p] ->
			unbegin_one(0, p);
			unbegin_one(1, p);
			failed[p] = false;
			connected[p] = 0
		:: else ->
			bind_one(0, p);
			bind_one(1, p);
			claim_advance(p)
		fi
	fi;
	request[p] = 0
}

/* The rest of claim_grant(), after the packet is on its way. */
inline grant_over(g)
{
	if
	:: copy[g] ->
		advance(g, LEASE_SENT);
		claimer[g] = 0;
		die();
		copy[g] = false;
		if
		:: file[g] == BROKER -> let_go(g)
		:: else
		fi
	:: else
	fi
}

/* lease/ending.c, lease_probe_holder(), where the open says something else than EBUSY. */
#define look_tells(g) (driver[g] < ON_PART || file[g] == NOBODY)
#define may_look(g)                                                                                \
	(work[g] == AT_NOTHING && state[g] != RESTORING && state[g] != STUCK && state[g] != ASKED)

inline look(g)
{
	if
	:: may_look(g) && look_tells(g) ->
		file[g] = (driver[g] >= ON_PART -> BROKER : file[g]);
		watched[g] = false;
		closed[g] = false;
		die();
		advance(g, LEASE_REGAINED);
		if
		:: moved -> restore(g)
		:: else -> file[g] = (file[g] == BROKER -> NOBODY : file[g])
		fi
	:: else
	fi
}

/* lease/recover.c, take_record() and recover_lease(). The kernel goes on in between. */
inline take_up(g)
{
	if
	:: state[g] != HOST ->
		atomic {
			die();
			may_fail(bad);
			watched[g] = (!bad && driver[g] >= ON_PART);
			bad = false;
			taken_up[g] = true
		}
		atomic {
			if
			:: driver[g] == ON_VFIO -> advance(g, LEASE_SENT)
			:: else
			fi
		}
		atomic {
			look(g);
			again = 0;
			moved = false;
			check()
		}
	:: else
	fi
}

/* A worker has ended: lease/bringup.c, on_made(); lease/restore.c, on_restored() */
inline work_over(g)
{
	what = work[g];
	bad = (ended[g] == FAILED);
	work[g] = AT_NOTHING;
	left[g] = 0;
	ended[g] = RUNS;
	if
	:: what == AT_BIND && (state[g] == STUCK || claimer[g] == 0) ->
		bad = false;
		advance(g, LEASE_ABANDON);
		if
		:: moved -> restore(g)
		:: else
		fi
	:: what == AT_BIND && state[g] != STUCK && claimer[g] != 0 ->
		again = claimer[g];
		if
		:: bad || driver[g] != ON_VFIO -> failed[again] = true
		:: else -> advance(g, LEASE_BOUND)
		fi
	:: (what == AT_OVERRIDE || what == AT_TAKE_OFF) && bad -> restore_over(g, true)
	:: (what == AT_OVERRIDE || what == AT_TAKE_OFF) && !bad -> give_back(g)
	:: what == AT_GIVE_BACK -> restore_over(g, !as_before(g))
	fi;
	bad = false;
	what = 0;
	claim_advance(again)
}

inline tidy()
{
	again = 0;
	moved = false;
	check()
}

/* What was asked for is stuck only if its holder has let go: see lease_asked_closed(). */
#define late_counts(g)                                                                             \
	(work[g] != AT_NOTHING && ended[g] == RUNS && NEXT(state[g], LEASE_LATE) != 0 &&           \
	 (state[g] != ASKED || !held(g)))
#define waits(g)                                                                                   \
	(work[g] != AT_NOTHING && ended[g] == RUNS && claimer[g] == 0 && held(g) &&                \
	 NEXT(state[g], LEASE_WAITS) != 0)
#define looks(g)                                                                                   \
	(state[g] == RELEASING || (taken_up[g] && (state[g] == PREPARING || state[g] == LEASED)))
#ifdef MUTANT_GIVES_UP /* looks for a minute, whether inotify watches or not */
#define minute_over(g) (taken_up[g] && state[g] == LEASED && held(g))
#else
#define minute_over(g) (taken_up[g] && state[g] == LEASED && held(g) && watched[g])
#endif

/* What happens to a group's lease, one event a turn. */
#define EVENTS(g)                                                                                  \
	:: atomic { !sent && ended[g] != RUNS -> work_over(g); tidy() }                            \
	:: atomic {                                                                                \
		!sent && late_counts(g) ->                                                         \
			advance(g, LEASE_LATE);                                                    \
			again = claimer[g];                                                        \
			failed[again] = (again != 0);                                              \
			claim_advance(again);                                                      \
			tidy()                                                                     \
	   }                                                                                       \
	:: atomic { /* lease/restore.c, on_restore_late() */                                       \
		!sent && waits(g) -> advance(g, LEASE_WAITS); tidy()                               \
	   }                                                                                       \
	:: atomic {                                                                                \
		!sent && closed[g] ->                                                              \
			closed[g] = false;                                                         \
			advance(g, LEASE_CLOSED);                                                  \
			if                                                                         \
			:: moved -> look(g)                                                        \
			:: else                                                                    \
			fi;                                                                        \
			tidy()                                                                     \
	   }                                                                                       \
	:: atomic { !sent && looks(g) && may_look(g) && look_tells(g) -> look(g); tidy() }         \
	:: atomic { /* the group cannot be looked at: lease/ending.c, on_unknown() */              \
		!sent && state[g] == RELEASING && faults > 0 ->                                    \
			faults--;                                                                  \
			advance(g, LEASE_FAILED);                                                  \
			retry[g] = true;                                                           \
			tidy()                                                                     \
	   }                                                                                       \
	:: atomic { !sent && minute_over(g) -> taken_up[g] = false }                               \
	:: atomic {                                                                                \
		!sent && recalls > 0 && NEXT(state[g], LEASE_RECALLED) != 0 ->                     \
			recalls--;                                                                 \
			advance(g, LEASE_RECALLED);                                                \
			recalled[g] = true;                                                        \
			restore(g);                                                                \
			tidy()                                                                     \
	   }                                                                                       \
	:: atomic {                                                                                \
		!sent && retry[g] && state[g] == STUCK && work[g] == AT_NOTHING && !refuses[g] ->  \
			retry[g] = false;                                                          \
			advance(g, LEASE_ABANDON);                                                 \
			if                                                                         \
			:: moved -> restore(g)                                                     \
			:: else                                                                    \
			fi;                                                                        \
			tidy()                                                                     \
	   }

#define REQUESTS(p)                                                                                \
	:: atomic { !sent && request[p] != 0 -> claim(p); tidy() }                                 \
	:: atomic {                                                                                \
		!sent && abandoned[p] ->                                                           \
			abandoned[p] = false;                                                      \
			failed[p] = (mine(0, p) || mine(1, p));                                    \
			claim_advance(p);                                                          \
			tidy()                                                                     \
	   }

inline gone_with_it(g)
{
#ifdef MUTANT_WORKER_OUTLIVES
	if
	:: work[g] == AT_BIND && left[g] == 4 && !inside[g] && ended[g] == RUNS -> stray[g] = true
	:: else
	fi;
#endif
	forget(g);
	file[g] = (file[g] == BROKER -> NOBODY : file[g]);
	work[g] = AT_NOTHING;
	left[g] = 0;
	inside[g] = false;
	ended[g] = RUNS
}

inline cut_off(p)
{
	request[p] = 0;
	connected[p] = 0;
	abandoned[p] = false;
	failed[p] = false
}

proctype core()
{
	byte next, steps, again, what;
	bool moved, bad;

start:
	atomic {
		alive = true;
		/* PREPARING, for somebody had it. */
		if
		:: record[0] -> advance(0, LEASE_CLAIMED)
		:: else
		fi;
		if
		:: record[1] -> advance(1, LEASE_CLAIMED)
		:: else
		fi
	}
	take_up(0);
	take_up(1);
	atomic { up = true; check() }
end:
	do
	:: atomic {
		sent != 0 ->
			grant_over(0);
			grant_over(1);
			failed[sent] = false;
			sent = 0;
			tidy()
	   }
	EVENTS(0)
	EVENTS(1)
	REQUESTS(1)
	REQUESTS(2)
	:: atomic { !sent && crashes > 0 -> crashes--; alive = false; up = false; goto dead }
	od;
dead:
	atomic {
		gone_with_it(0);
		gone_with_it(1);
		cut_off(1);
		cut_off(2);
		sent = 0;
		next = 0;
		steps = 0;
		what = 0;
		bad = false;
		tidy();
		goto start
	}
}

/* ---- where it ends ---- */

#define is_over(g)                                                                                 \
	((state[g] == HOST || (state[g] == STUCK && refuses[g] && record[g])) && !held(g))

proctype last_state()
{
end:
	timeout -> assert(up && is_over(0) && is_over(1) && !connected[1] && !connected[2])
}

inline at_most(n_claims, n_crashes, n_recalls, n_faults)
{
	select(claims : 1 .. n_claims);
	select(crashes : 0 .. n_crashes);
	select(recalls : 0 .. n_recalls);
	select(faults : 0 .. n_faults)
}

init {
	atomic {
		driver[0] = was(0);
		driver[1] = was(1);
		state[0] = HOST;
		state[1] = HOST;
		/* All of each at once would be too many. */
		if
#ifdef FEW /* for what takes long to search */
		:: at_most(1, 1, 1, 0)
		:: at_most(1, 0, 1, 1)
#else
		:: at_most(1, 1, 1, 1)
#endif
#ifdef ALL
		:: at_most(1, 2, 1, 0)
		:: at_most(2, 1, 0, 0)
		:: at_most(2, 0, 1, 1)
#endif
		fi;
		run kernel(0);
		run kernel(1);
		run peer(1);
		run peer(2);
		run core();
		run last_state()
	}
}
