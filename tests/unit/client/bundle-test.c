/* SPDX-License-Identifier: MIT */
/*
 * Driver bundles: sums by the examples of the standard, manifests good and bad, who may have written
 * one, and that an image is checked by the descriptor that is handed over.
 */
#include "config.h"

#include "client/host/bundle.h"
#include "client/common/util.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- SHA-256 ---- */

static const char *sum_of(const char *text, size_t len, char out[SHA256_TEXT])
{
	uint8_t sum[SHA256_SIZE];
	uint64_t size;
	int fd = memfd_create("sum", MFD_CLOEXEC);

	need(fd >= 0 && write(fd, text, len) == (ssize_t)len);
	need(!bundle_sum(fd, sum, &size) && size == len);
	close(fd);
	return manifest_sum_text(sum, out);
}

static void test_sha256(void)
{
	static const char abc[] =
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	static const char none[] =
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	static const char two[] =
		"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
	static const char million[] =
		"cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
	static char many[1000000];
	char out[SHA256_TEXT];

	tap_ok(!strcmp(sum_of("", 0, out), none), "the sum of nothing");
	tap_ok(!strcmp(sum_of("abc", 3, out), abc), "... of abc");
	tap_ok(!strcmp(sum_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, out),
		       two),
	       "... of what needs a second block");
	memset(many, 'a', sizeof(many));
	tap_ok(!strcmp(sum_of(many, sizeof(many), out), million), "... of a million letters");
}

/* ---- manifests ---- */

#define SUM "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define GOOD                                                                                       \
	"# a comment\n\nkernel 6.12.117+deb13-amd64\nversion\t570.86.16 \ndevice 10de:2330\n"      \
	"  device 1002:*\nimage drivers.erofs\nformat erofs\nsize 4096\nsha256 " SUM

static char faults[8192]; /* "LINE: TEXT\n" of each */

static void note_line(void *userdata, unsigned line, const char *text)
{
	size_t used = strlen(faults);

	(void)userdata;
	snprintf(faults + used, sizeof(faults) - used, "%u: %s\n", line, text);
}

static struct manifest parsed;

/* The text is copied to where nothing is behind it, for sanitizers and valgrind. */
static size_t parse_bytes(const char *text, size_t len)
{
	char *copy = malloc(len ? len : 1);
	size_t n;

	need(copy);
	memcpy(copy, text, len);
	faults[0] = '\0';
	n = manifest_parse(copy, len, note_line, NULL, &parsed);
	free(copy);
	return n;
}

static size_t parse(const char *text)
{
	return parse_bytes(text, strlen(text));
}

/* GOOD with a line in place of the one that begins with `word`; "": without it. */
static size_t parse_with(const char *word, const char *line)
{
	static char text[70000];
	const char *at = strstr(GOOD, word), *end;

	need(at);
	end = strchrnul(at, '\n');
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - GOOD), GOOD, line, end);
	return parse(text);
}

static void refused(size_t n, const char *part)
{
	if (!tap_ok(n && strstr(faults, part), "refused: %s", part))
		printf("# got %s", faults);
}

static void test_good(void)
{
	char text[MANIFEST_DEVICE_TEXT];

	if (!tap_ok(!parse(GOOD), "a manifest is parsed"))
		printf("# %s", faults);
	tap_ok(!strcmp(parsed.kernel, "6.12.117+deb13-amd64"), "... its kernel");
	tap_ok(!strcmp(parsed.version, "570.86.16"),
	       "... its version, without the blank at the end");
	tap_ok(parsed.format == MANIFEST_EROFS && parsed.size == 4096 && parsed.sha256[0] == 0xe3 &&
		       parsed.sha256[31] == 0x55,
	       "... format, size and sum");
	tap_ok(parsed.n_devices == 2 && manifest_has(&parsed, 0x10de, 0x2330) &&
		       !manifest_has(&parsed, 0x10de, 0x2331),
	       "... a device, and no other of its vendor");
	tap_ok(manifest_has(&parsed, 0x1002, 1) && !manifest_has(&parsed, 0x1003, 1),
	       "... all of another vendor");
	tap_ok(!strcmp(manifest_device_format(&parsed.devices[1], text), "1002:*"),
	       "... which is written as it was");
	tap_ok(!parse(GOOD "\n"), "a newline at the end changes nothing");
	tap_ok(!parse_with("format erofs", "format iso") && parsed.format == MANIFEST_ISO,
	       "an ISO for Windows");
}

static void test_values(void)
{
	refused(parse_with("kernel", "kernal 6.1"),
		"3: there is no 'kernal'; did you mean 'kernel'?");
	refused(parse_with("kernel", "colour red"), "3: there is no 'colour'; a line begins with");
	refused(parse_with("kernel", "kernel"), "3: kernel needs a value, as in: kernel 6");
	refused(parse_with("kernel", "# none"), "0: has no line 'kernel'; add one");
	refused(parse_with("kernel", "kernel a b"), "3: kernel 'a b' is none");
	refused(parse_with("kernel", "kernel $(reboot)"), "3: kernel '$(reboot)' is none");
	refused(parse_with("version", "kernel 6.1"), "4: kernel stands in line 3 already");
	refused(parse_with("device 10", "device 10de"), "5: '10de' is no device");
	refused(parse_with("device 10", "device 10de:23300"), "is no device");
	refused(parse_with("device 10", "device *:2330"), "is no device");
	refused(parse_with("device 10", "device 10de:233g"), "is no device");
	refused(parse_with("format", "format zip"), "8: there is no format 'zip'");
	refused(parse_with("size", "size 0"), "9: '0' is no size");
	refused(parse_with("size", "size -1"), "9: '-1' is no size");
	refused(parse_with("size", "size 4K"), "9: '4K' is no size");
	refused(parse_with("size", "size 9999999999999999999"), "is no size");
	refused(parse_with("sha256", "sha256 e3b0"), "10: that is no SHA-256");
	refused(parse_with("sha256", "sha256 x3" SUM), "10: that is no SHA-256");
}

static void test_images(void)
{
	static const char *const out[] = { "../x",    "/etc/shadow", "a/b",	"..",
					   ".hidden", "-rf",	     "manifest" };

	for (size_t i = 0; i < ARRAY_SIZE(out); i++) {
		char line[64];

		snprintf(line, sizeof(line), "image %s", out[i]);
		tap_ok(parse_with("image", line) == 1 && strstr(faults, "7: image '"),
		       "refused: image %s", out[i]);
	}
	refused(parse_with("image", "image ../x"), "leads out of the bundle");
}

static void test_bytes(void)
{
	static char text[MANIFEST_SIZE_MAX + 2];
	static const char nul[] = "kernel 6.1\0evil\nversion 1\n";
	size_t n;

	refused(parse_bytes(nul, sizeof(nul) - 1), "1: has a NUL byte");
	refused(parse("kernel 6.1\r\n"), "1: ends in CR LF, as on Windows");
	refused(parse("kernel 6\r1\n"), "1: has a control character (0x0d)");
	refused(parse("kernel \033[2J\n"), "1: has a control character (0x1b)");
	refused(parse(""), "0: has no line 'sha256'");
	memset(text, '#', sizeof(text));
	refused(parse_bytes(text, sizeof(text)), "0: is larger than 64 KiB");
	text[1000] = '\n';
	refused(parse_bytes(text, MANIFEST_SIZE_MAX), "0: has no line 'kernel'");
	memset(text, 'k', 1000);
	text[256] = '\n';
	refused(parse_bytes(text, 257), "1: is longer than 255 characters");
	text[256] = 'k';
	refused(parse_bytes(text, 1001), "1: is longer than 255 characters");
	memset(text, '\n', sizeof(text));
	tap_ok(parse_bytes(text, MANIFEST_SIZE_MAX), "64 KiB of nothing are no manifest");
	for (size_t i = 0; i < MANIFEST_SIZE_MAX; i += 2)
		memcpy(text + i, "x\n", 2);
	n = parse_bytes(text, MANIFEST_SIZE_MAX);
	if (!tap_ok(n == MANIFEST_FAULTS_MAX && strlen(faults) < 4000,
		    "of very many mistakes some are told"))
		printf("# %zu\n", n);
	for (size_t i = 0, at = 0; i <= MANIFEST_DEVICES_MAX; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "device 10de:%04zx\n", i);
	refused(parse(text), "1025: is one device too many");
}

/* ---- bundles ---- */

static char found[8192];

static void note_found(void *userdata, const char *path, unsigned line, const char *text)
{
	size_t used = strlen(found);

	(void)userdata;
	snprintf(found + used, sizeof(found) - used, "%s:%u: %s\n", path + strlen(scratch_path),
		 line, text);
}

static const char manifest_of_abc[] =
	"kernel 6.1\nversion 1\ndevice 10de:*\nimage i.erofs\nformat erofs\nsize 3\nsha256 "
	"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";

static void test_owners(void)
{
	struct stat st = { .st_mode = S_IFREG | 0644 };

	tap_ok(!bundle_why_unfit(&st), "root's file of mode 0644 is good");
	st.st_mode = S_IFREG | 0664;
	tap_ok(bundle_why_unfit(&st), "... one that its group can write is not");
	st.st_mode = S_IFREG | 0646;
	tap_ok(bundle_why_unfit(&st), "... nor one that others can");
	st = (struct stat){ .st_mode = S_IFREG | 0444, .st_uid = 1000 };
	tap_ok(bundle_why_unfit(&st), "... nor another user's, who can make it so");
	tap_ok(bundle_is_name("nvidia-570.86_16+deb13~1"), "a bundle's name");
	tap_ok(!bundle_is_name("../x") && !bundle_is_name("") && !bundle_is_name(".x") &&
		       !bundle_is_name("a b") && !bundle_is_name("a/b"),
	       "... leads nowhere else");
}

/* Swaps the image between the check and the use. */
static void test_swap(const struct bundles_source *source, const struct bundle *bundle)
{
	char path[128], other[128], text[8] = "";
	int fd = -1;

	snprintf(path, sizeof(path), "%s/good/i.erofs", scratch_path);
	snprintf(other, sizeof(other), "%s/evil", scratch_path);
	scratch_write("evil", "xyz");
	if (!tap_ok(!bundle_open_image(source, bundle, &fd) && fd >= 0,
		    "the image is what it should be"))
		printf("# %s", found);
	need(!rename(other, path));
	tap_ok(pread(fd, text, sizeof(text), 0) == 3 && !strcmp(text, "abc"),
	       "... and the descriptor has it, whatever has its name by then");
	tap_ok((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY, "... to be read alone");
	fd_close(fd);
	tap_ok(bundle_open_image(source, bundle, &fd) == 1 && strstr(found, "has the SHA-256"),
	       "what was swapped is noticed by the next");
	scratch_write("good/i.erofs", "abcd");
	tap_ok(bundle_open_image(source, bundle, &fd) == 1 && strstr(found, "has 4 bytes"),
	       "... and so is another size");
}

static void test_directory(void)
{
	struct bundles_source source = { .directory = scratch_path, .found = note_found };
	char path[128];
	struct bundles bundles;
	struct bundle bundle;
	size_t before;

	scratch_write("good/manifest", manifest_of_abc);
	scratch_write("good/i.erofs", "abc");
	scratch_write("bad/manifest", "kernel 6.1\nfoo\n");
	scratch_write("without/i.erofs", "abc");
	scratch_write("README", "no bundle");
	scratch_write(".begun/manifest", "x");
	snprintf(path, sizeof(path), "%s/link", scratch_path);
	need(!symlink("good", path));
	snprintf(path, sizeof(path), "%s/wr/manifest", scratch_path);
	scratch_write("wr/manifest", manifest_of_abc);
	need(!chmod(path, 0666) && !chmod(scratch_path, 0755));
	before = open_descriptors();
	if (!tap_ok(!bundles_read(&source, &bundles) && bundles.n == 1 && bundles.n_bad == 4 &&
			    !strcmp(bundles.list[0].name, "good"),
		    "of several bundles the good one is read"))
		printf("# %zu, %zu: %s\n", bundles.n, bundles.n_bad, found);
	tap_ok(strstr(found, "/bad/manifest:2: there is no 'foo'"), "... what is wrong has a line");
	tap_ok(strstr(found, "/without/manifest:0: is not there;"), "... one has no manifest");
	tap_ok(strstr(found, "/link:0: is a symbolic link"), "... one is a link");
	tap_ok(strstr(found, "/wr/manifest:0: can be written by others"),
	       "... one is all people's");
	bundles_done(&bundles);
	tap_ok(bundle_read(&source, "no", &bundle) == -ENOENT &&
		       bundle_read(&source, "../etc", &bundle) == -ENOENT &&
		       bundle_read(&source, "README", &bundle) == -ENOENT,
	       "what is no bundle is none");
	tap_ok(!bundle_read(&source, "good", &bundle), "one is read by its name");
	test_swap(&source, &bundle);
	tap_ok(open_descriptors() == before, "no descriptor is left");
	need(!chmod(scratch_path, 0777));
	found[0] = '\0';
	tap_ok(!bundles_read(&source, &bundles) && !bundles.n && bundles.n_bad == 1 &&
		       strstr(found, "can be written by others"),
	       "nothing is read where others could put a bundle");
	bundles_done(&bundles);
	source.directory = "/nonexistent";
	tap_ok(!bundles_read(&source, &bundles) && !bundles.n && !bundles.n_bad,
	       "no directory, no bundles");
	bundles_done(&bundles);
}

int main(void)
{
	test_sha256();
	test_good();
	test_values();
	test_images();
	test_bytes();
	test_owners();
	scratch_make();
	if (geteuid())
		tap_ok(true, "bundles in a directory # SKIP they must be root's");
	else
		test_directory();
	return tap_done();
}
