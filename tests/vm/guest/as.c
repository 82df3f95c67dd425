/* SPDX-License-Identifier: MIT */
/*
 * as USER LIMIT COMMAND...: becomes USER as a login would, with LIMIT bytes of RLIMIT_MEMLOCK (or "unlimited"), and
 * executes COMMAND. In one program, because each exec of setpriv, prlimit, env and a shell costs a tenth of a
 * second in an emulated host, a thousand times over.
 *
 * Where AS_CONFINED is "selinux", COMMAND is in the domain of ../confined/gpubroker_test.te, with two categories
 * that no other user has, as sVirt gives them to a guest; where it is "apparmor", in ../confined/gpubroker-test's
 * profile.
 */
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static int confine(uid_t uid)
{
	const char *by = getenv("AS_CONFINED");
	char text[128] = "";
	int fd, ok;

	if (!by || !*by)
		return 0;
	if (!strcmp(by, "selinux"))
		snprintf(text, sizeof(text),
			 "unconfined_u:unconfined_r:gpubroker_test_t:s0:c%u,c%u", 2 * (uid % 400),
			 2 * (uid % 400) + 1);
	else
		snprintf(text, sizeof(text), "exec gpubroker-test");
	fd = open("/proc/thread-self/attr/exec", O_WRONLY | O_CLOEXEC);
	ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	if (fd >= 0)
		close(fd);
	return ok ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	const struct passwd *user = argc > 3 ? getpwnam(argv[1]) : NULL;
	char home[128], name[64], logname[64], runtime[] = "XDG_RUNTIME_DIR=/tmp";
	char path[] = "PATH=/usr/bin:/bin", locale[] = "LC_ALL=C.UTF-8", term[] = "TERM=dumb";
	char *environment[] = { name, logname, home, path, locale, term, runtime, NULL };

	if (!user) {
		fprintf(stderr, "usage: as USER LIMIT COMMAND...\n");
		return 125;
	}
	if (strcmp(argv[2], "unlimited") != 0)
		limit.rlim_cur = limit.rlim_max = strtoull(argv[2], NULL, 10);
	for (int capability = 0; capability < 64; capability++)
		prctl(PR_CAPBSET_DROP, capability);
	if (setrlimit(RLIMIT_MEMLOCK, &limit) || initgroups(user->pw_name, user->pw_gid) ||
	    setresgid(user->pw_gid, user->pw_gid, user->pw_gid) ||
	    setresuid(user->pw_uid, user->pw_uid, user->pw_uid) || confine(user->pw_uid)) {
		perror("as");
		return 125;
	}
	snprintf(name, sizeof(name), "USER=%s", user->pw_name);
	snprintf(logname, sizeof(logname), "LOGNAME=%s", user->pw_name);
	snprintf(home, sizeof(home), "HOME=%s", user->pw_dir);
	if (chdir(user->pw_dir))
		chdir("/");
	execvpe(argv[3], argv + 3, environment);
	perror(argv[3]);
	return 127;
}
