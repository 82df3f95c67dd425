/* SPDX-License-Identifier: MIT */
/*
 * Reads what drivers offer, see profile.h. Only reads, and takes everything that a driver writes as
 * text: what is too long, or should be a number and is none, is reported and left out. Text becomes
 * printable ASCII on one line, except file names, which stay as they are since a path is made of
 * them.
 *
 * Reading available_instances asks the driver, which may take its time. So only processes that may
 * wait read here: the command, and the daemon's workers, which parse what a VF offers with
 * profile_parse_creatable().
 */
#include "config.h"

#include "client/host/profile.h"
#include "client/common/address.h"
#include "client/host/directory.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>

#define ATTRIBUTE_MAX 4097 /* sysfs gives a page at most */

struct reader {
	int sys;
	profile_problem_func problem;
	void *userdata;
	struct profiles *profiles;
};

static void report_problem(const struct reader *reader, const char *path, int r)
{
	reader->problem(reader->userdata, path, -r);
}

/* Reads a file whole. Reports an error, but a missing file only if it `must` be there. */
static int read_file(const struct reader *reader, const char *path, bool must,
		     char text[ATTRIBUTE_MAX])
{
	cleanup_fd int fd = sysfs_open(reader->sys, O_RDONLY, "%s", path);
	ssize_t n = fd < 0 ? fd : read_whole(fd, text, ATTRIBUTE_MAX);
	size_t used = n < 0 ? 0 : (size_t)n;
	int r = n < 0 ? (int)n : 0;

	if (!r && used == ATTRIBUTE_MAX)
		r = -E2BIG;
	if (!r && memchr(text, '\0', used))
		r = -EBADMSG;
	if (r) {
		if (must || r != -ENOENT)
			report_problem(reader, path, r);
		return r;
	}
	while (used && (text[used - 1] == '\n' || text[used - 1] == ' '))
		used--;
	text[used] = '\0';
	return 0;
}

/* The same for a file in a directory: the whole attribute, without the end of its last line. */
static int read_attribute(const struct reader *reader, const char *directory, const char *file,
			  bool must, char text[ATTRIBUTE_MAX])
{
	cleanup_free char *path = NULL;

	if (asprintf(&path, "%s/%s", directory, file) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	return read_file(reader, path, must, text);
}

/* Joins lines to one. Text longer than `size` is cut, since it is prose. */
static void one_line(const char *text, char *out, size_t size)
{
	size_t used = 0;

	for (; *text && used + 3 < size; text++) {
		if (*text == '\n') {
			out[used++] = ',';
			out[used++] = ' ';
		} else {
			out[used++] = *text < ' ' || *text > '~' ? '?' : *text;
		}
	}
	out[used] = '\0';
}

/* Parses "8192M", "128MB", "8 GiB"; without a unit it is no size, and 0. */
static uint64_t parse_memory(const char *text)
{
	static const char units[] = "KMGT";
	const char *unit, *digits = text + strspn(text, " ");
	uint64_t value = 0;

	for (text = digits; *text >= '0' && *text <= '9'; text++)
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return 0;
	if (text == digits)
		return 0;
	text += strspn(text, " ");
	unit = *text ? strchr(units, *text) : NULL;
	if (!unit)
		return 0;
	text++;
	if (text[0] == 'i' && text[1] == 'B')
		text += 2;
	else if (text[0] == 'B')
		text++;
	if ((*text >= '0' && *text <= '9') || (*text >= 'A' && *text <= 'Z') ||
	    (*text >= 'a' && *text <= 'z'))
		return 0;
	if (__builtin_mul_overflow(value, 1ULL << 10 * (unit - units + 1), &value) ||
	    value == PROFILE_UNKNOWN)
		return 0;
	return value;
}

uint64_t profile_stated_memory(const char *description)
{
	static const char *const keys[] = { "framebuffer", "low_gm_size" };
	static const char words[] = " video memory";
	const char *p;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		p = strstr(description, keys[i]);
		if (!p || (p > description && p[-1] != ' ' && p[-1] != ',' && p[-1] != '\n'))
			continue;
		p += strlen(keys[i]);
		if (*p == '=' || *p == ':')
			return parse_memory(p + 1);
	}
	p = strstr(description, words);
	if (!p)
		return 0;
	/* Back over the unit and the number. */
	while (p > description && p[-1] >= 'A' && p[-1] <= 'z')
		p--;
	while (p > description && p[-1] == ' ')
		p--;
	while (p > description && p[-1] >= '0' && p[-1] <= '9')
		p--;
	return p > description && p[-1] != ' ' ? 0 : parse_memory(p);
}

/*
 * NVIDIA's names end in the size in GiB, the kind of vGPU, and perhaps "ME": "L40S-48Q",
 * "A100-4-20C", "A100-1-5CME". 0 is half a GiB.
 */
static uint64_t parse_nvidia_size(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	const char *after = text + digits;
	uint64_t gib;

	if (!digits || digits > 4 || !*after || !strchr("ABCQ", *after) ||
	    (after[1] && strcmp(after + 1, "ME") != 0))
		return 0;
	gib = strtoul(text, NULL, 10);
	return gib ? gib << 30 : 1ULL << 29;
}

uint64_t profile_named_memory(const char *name)
{
	const char *word = name + strlen(name);
	uint64_t memory;

	while (word > name && !strchr("- _", word[-1]))
		word--;
	if (word == name)
		return 0; /* one word alone names no size of something */
	memory = word[-1] == '-' ? parse_nvidia_size(word) : 0;
	/* "...-16G", "..._512MB": a unit makes it a size, but K, as in "4K", that of a screen. */
	return memory || strchr(word, 'K') ? memory : parse_memory(word);
}

bool profile_parse_creatable(const char *line, char ret_type[16], char ret_name[128])
{
	size_t digits, n;

	line += strspn(line, " \t");
	digits = strspn(line, "0123456789");
	if (!digits || digits >= 16)
		return false;
	n = digits + strspn(line + digits, " \t");
	if (line[n] != ':')
		return false;
	memcpy(ret_type, line, digits);
	ret_type[digits] = '\0';
	line += n + 1;
	one_line(line + strspn(line, " \t"), ret_name, 128);
	for (n = strlen(ret_name); n && ret_name[n - 1] == ' '; n--)
		ret_name[n - 1] = '\0';
	return ret_name[0];
}

/* Reads a count, or PROFILE_UNKNOWN after reporting why. Each fits in 32 bits. */
static uint64_t read_count(const struct reader *reader, const char *directory, const char *file)
{
	char text[ATTRIBUTE_MAX], path[PATH_MAX], *end;
	unsigned long long value;

	if (read_attribute(reader, directory, file, true, text))
		return PROFILE_UNKNOWN;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (*text >= '0' && *text <= '9' && !errno && !*end && value <= UINT32_MAX)
		return value;
	snprintf(path, sizeof(path), "%s/%s", directory, file);
	report_problem(reader, path, -EINVAL);
	return PROFILE_UNKNOWN;
}

static struct profile *profile_append(const struct reader *reader)
{
	struct profiles *profiles = reader->profiles;
	struct profile *list = reallocarray(profiles->list, profiles->n + 1, sizeof(*list)), *added;

	if (!list)
		return NULL;
	profiles->list = list;
	added = &list[profiles->n++];
	*added = (struct profile){ .available = PROFILE_UNKNOWN, .instances = PROFILE_UNKNOWN };
	return added;
}

/* Copies a file name into a field; sysfs has none that does not fit. */
static void copy_name(char out[PROFILE_NAME_MAX], const char *name)
{
	snprintf(out, PROFILE_NAME_MAX, "%s", name);
}

static void read_physfn(const struct reader *reader, const char *directory, char out[32])
{
	cleanup_fd int fd = sysfs_open(reader->sys, O_PATH | O_DIRECTORY, "%s", directory);
	char target[256], *name;
	ssize_t n = fd < 0 ? -1 : readlinkat(fd, "physfn", target, sizeof(target) - 1);

	if (n <= 0)
		return;
	target[n] = '\0';
	name = strrchr(target, '/');
	snprintf(out, 32, "%.31s", name ? name + 1 : target);
}

static uint64_t count_entries(const struct reader *reader, const char *directory, const char *name)
{
	cleanup_fd int fd =
		sysfs_open(reader->sys, O_RDONLY | O_DIRECTORY, "%s/%s", directory, name);
	struct directory dir = DIRECTORY(fd);
	char path[PATH_MAX];
	uint64_t n = 0;

	while (fd >= 0 && directory_next(&dir))
		n++;
	if (fd >= 0 && !dir.error)
		return n;
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	report_problem(reader, path, fd < 0 ? fd : dir.error);
	return PROFILE_UNKNOWN;
}

/* Adds one of a parent's mdev types; `path` is its directory. */
static int read_type(const struct reader *reader, const char *parent, const char *type,
		     const char *path)
{
	struct profile *p = profile_append(reader);
	char text[ATTRIBUTE_MAX];

	if (!p)
		return -ENOMEM;
	p->mechanism = PROFILE_MDEV;
	copy_name(p->parent, parent);
	copy_name(p->type, type);
	if (!read_attribute(reader, path, "name", false, text))
		one_line(text, p->name, sizeof(p->name));
	if (!read_attribute(reader, path, "description", false, text)) {
		one_line(text, p->description, sizeof(p->description));
		p->memory = profile_stated_memory(p->description);
	}
	if (!p->memory)
		p->memory = profile_named_memory(p->name);
	if (!read_attribute(reader, path, "device_api", true, text))
		one_line(text, p->device_api, sizeof(p->device_api));
	p->available = read_count(reader, path, "available_instances");
	p->instances = count_entries(reader, path, "devices");
	return 0;
}

/* Calls func for each entry of a directory. -ENOENT: there is no such directory. */
static int each_entry(const struct reader *reader, const char *path,
		      int (*func)(const struct reader *reader, const char *path, const char *name))
{
	cleanup_fd int fd = sysfs_open(reader->sys, O_RDONLY | O_DIRECTORY, "%s", path);
	struct directory dir = DIRECTORY(fd);
	const char *name;
	int r = fd < 0 ? fd : 0;

	while (!r && (name = directory_next(&dir)))
		r = func(reader, path, name);
	r = r ? r : fd < 0 ? fd : dir.error;
	if (r && r != -ENOENT && r != -ENOMEM)
		report_problem(reader, path, r);
	return r == -ENOMEM ? r : 0;
}

static int on_type(const struct reader *reader, const char *path, const char *name)
{
	cleanup_free char *type = NULL, *parent = NULL;

	if (asprintf(&type, "%s/%s", path, name) < 0) {
		type = NULL;
		return -ENOMEM;
	}
	/* class/mdev_bus/PARENT/mdev_supported_types */
	parent = strdup(path + strlen("class/mdev_bus/"));
	if (!parent)
		return -ENOMEM;
	parent[strcspn(parent, "/")] = '\0';
	return read_type(reader, parent, name, type);
}

static int on_parent(const struct reader *reader, const char *path, const char *name)
{
	cleanup_free char *directory = NULL, *types = NULL;
	size_t before = reader->profiles->n;
	char physfn[32] = "";
	int r;

	if (asprintf(&directory, "%s/%s", path, name) < 0) {
		directory = NULL;
		return -ENOMEM;
	}
	if (asprintf(&types, "%s/mdev_supported_types", directory) < 0) {
		types = NULL;
		return -ENOMEM;
	}
	r = each_entry(reader, types, on_type);
	read_physfn(reader, directory, physfn);
	for (size_t i = before; i < reader->profiles->n; i++)
		strcpy(reader->profiles->list[i].physfn, physfn);
	return r;
}

/*
 * Adds the vGPU types that a virtual function can get, and the one that it has. A VF holds one
 * vGPU: while it has a type, none is available.
 */
static int add_creatable(const struct reader *reader, const char *address, const char *path,
			 char *text, uint64_t current)
{
	char type[16], name[128], *state = NULL;
	bool is_current, seen = !current;
	struct profile *p;
	size_t n_lines = 0;

	for (char *line = strtok_r(text, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
		if (!profile_parse_creatable(line, type, name)) {
			if (n_lines++) /* the heading */
				report_problem(reader, path, -EBADMSG);
			continue;
		}
		n_lines++;
		is_current = current != PROFILE_UNKNOWN && strtoull(type, NULL, 10) == current;
		seen |= is_current;
		p = profile_append(reader);
		if (!p)
			return -ENOMEM;
		p->mechanism = PROFILE_VENDOR_VFIO;
		copy_name(p->parent, address);
		copy_name(p->type, type);
		strcpy(p->name, name);
		p->memory = profile_named_memory(name);
		if (current != PROFILE_UNKNOWN) {
			p->available = !current;
			p->instances = is_current;
		}
	}
	if (seen || current == PROFILE_UNKNOWN)
		return 0;
	/* Its type need not be among those that could be made now. */
	p = profile_append(reader);
	if (!p)
		return -ENOMEM;
	p->mechanism = PROFILE_VENDOR_VFIO;
	copy_name(p->parent, address);
	snprintf(p->type, sizeof(p->type), "%llu", (unsigned long long)current);
	p->available = 0;
	p->instances = 1;
	return 0;
}

static int on_function(const struct reader *reader, const char *path, const char *name)
{
	char text[ATTRIBUTE_MAX], file[128], directory[96];
	size_t before = reader->profiles->n;
	struct pci_address address;
	char physfn[32] = "";
	int r;

	if (pci_address_parse(name, &address))
		return 0;
	snprintf(directory, sizeof(directory), "%s/%.32s", path, name);
	snprintf(file, sizeof(file), "%s/nvidia/creatable_vgpu_types", directory);
	if (read_file(reader, file, false, text)) /* few drivers have it */
		return 0;
	r = add_creatable(reader, name, file, text,
			  read_count(reader, directory, "nvidia/current_vgpu_type"));
	read_physfn(reader, directory, physfn);
	for (size_t i = before; i < reader->profiles->n; i++)
		strcpy(reader->profiles->list[i].physfn, physfn);
	return r;
}

static int compare_profiles(const void *a, const void *b)
{
	const struct profile *x = a, *y = b;
	int r = strcmp(x->parent, y->parent);

	return r ? r : strverscmp(x->type, y->type); /* nvidia-35 before nvidia-222 */
}

int profiles_read(int sys, profile_problem_func problem, void *userdata,
		  struct profiles *ret_profiles)
{
	const struct reader reader = {
		.sys = sys,
		.problem = problem,
		.userdata = userdata,
		.profiles = ret_profiles,
	};
	int r;

	*ret_profiles = (struct profiles){ 0 };
	r = each_entry(&reader, "class/mdev_bus", on_parent);
	if (!r)
		r = each_entry(&reader, "bus/pci/devices", on_function);
	if (ret_profiles->n)
		qsort(ret_profiles->list, ret_profiles->n, sizeof(*ret_profiles->list),
		      compare_profiles);
	return r;
}

void profiles_done(struct profiles *profiles)
{
	free(profiles->list);
	*profiles = (struct profiles){ 0 };
}
