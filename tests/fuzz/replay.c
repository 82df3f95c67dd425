/* SPDX-License-Identifier: MIT */
/*
 * A main() for the fuzz targets in an ordinary build. It speaks TAP: `ok` for each seed and regression
 * of the tree that the target takes; that of policies also for the texts of tests/policy.
 *
 *	TARGET			replays those of the tree, and checks that the target still makes these seeds
 *	TARGET --seeds DIR	writes the seeds there
 *	TARGET FILE|DIR...	replays these, and prints only how many
 */
#include "config.h"

#include <dirent.h>
#include <sys/stat.h>

#include "client/common/util.h"
#include "tests/fuzz/fuzz.h"
#include "tests/tap.h"

#define INPUT_MAX (1U << 20)

static char tree[2048]; /* seeds/NAME in the tree */
static const char *out_dir;

/*
 * Reads a file into memory of exactly its size, so that ASan sees reads past the end. Returns NULL
 * if it cannot be read.
 */
static uint8_t *slurp(const char *path, size_t *ret_size)
{
	cleanup_file FILE *file = fopen(path, "re");
	struct stat st;
	uint8_t *data;

	if (!file || fstat(fileno(file), &st) || !S_ISREG(st.st_mode) || st.st_size > INPUT_MAX)
		return NULL;
	data = malloc(st.st_size ? (size_t)st.st_size : 1);
	if (data && fread(data, 1, (size_t)st.st_size, file) != (size_t)st.st_size) {
		free(data);
		return NULL;
	}
	*ret_size = (size_t)st.st_size;
	return data;
}

static bool replay(const char *path)
{
	size_t size;
	cleanup_free uint8_t *data = slurp(path, &size);

	if (!data)
		return false;
	LLVMFuzzerTestOneInput(data, size);
	return true;
}

static int is_file(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/*
 * Replays each file of a directory, in order. Returns how many, or -1 if there is no such
 * directory.
 */
static int replay_dir(const char *dir, const char *as)
{
	struct dirent **entries;
	int n = scandir(dir, &entries, is_file, alphasort);

	for (int i = 0; i < n; i++) {
		char path[4096];

		snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name);
		if (as) {
			/* Printed before, since a crash prints nothing. */
			printf("# %s/%s\n", as, entries[i]->d_name);
			fflush(stdout);
			tap_ok(replay(path), "%s takes %s/%s", fuzz_name, as, entries[i]->d_name);
		} else {
			replay(path);
		}
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return n;
}

static void compare(const char *name, const void *data, size_t size)
{
	char path[4096];
	size_t found_size = 0;
	cleanup_free uint8_t *found = NULL;

	snprintf(path, sizeof(path), "%s/%s", tree, name);
	found = slurp(path, &found_size);
	tap_ok(found && found_size == size && !memcmp(found, data, size),
	       "seed %s/%s is what the target makes (`make fuzz-seeds` renews it)", fuzz_name,
	       name);
}

static void save(const char *name, const void *data, size_t size)
{
	char path[4096];
	cleanup_file FILE *file = NULL;

	snprintf(path, sizeof(path), "%s/%s", out_dir, name);
	file = fopen(path, "we");
	must(file && fwrite(data, 1, size, file) == size);
}

static int replay_given(int argc, char **argv)
{
	unsigned long done = 0;

	for (int i = 1; i < argc; i++) {
		int n = replay_dir(argv[i], NULL);

		if (n < 0 && !replay(argv[i])) {
			fprintf(stderr, "%s: cannot be read\n", argv[i]);
			return 1;
		}
		done += n < 0 ? 1 : (unsigned long)n;
	}
	printf("%s: %lu inputs\n", fuzz_name, done);
	return 0;
}

int main(int argc, char **argv)
{
	/* Policies for other tests, with which tests/fuzz/run begins too. */
	static const char *const policies[] = { "policy/good", "policy/bad" };
	const char *top = getenv("top_srcdir");
	char path[2048], as[64];

	LLVMFuzzerInitialize(&argc, &argv);
	if (argc == 3 && !strcmp(argv[1], "--seeds")) {
		out_dir = argv[2];
		fuzz_seeds(save);
		return 0;
	}
	if (argc > 1)
		return replay_given(argc, argv);
	snprintf(tree, sizeof(tree), "%s/tests/fuzz/seeds/%s", top ? top : ".", fuzz_name);
	fuzz_seeds(compare);
	snprintf(as, sizeof(as), "seeds/%s", fuzz_name);
	tap_ok(replay_dir(tree, as) > 0, "%s has seeds", fuzz_name);
	snprintf(path, sizeof(path), "%s/tests/fuzz/regressions/%s", top ? top : ".", fuzz_name);
	snprintf(as, sizeof(as), "regressions/%s", fuzz_name);
	replay_dir(path, as);
	for (size_t i = 0; i < ARRAY_SIZE(policies) && !strcmp(fuzz_name, "policy"); i++) {
		snprintf(path, sizeof(path), "%s/tests/%s", top ? top : ".", policies[i]);
		tap_ok(replay_dir(path, policies[i]) > 0, "%s are there", policies[i]);
	}
	return tap_done();
}
