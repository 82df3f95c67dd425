/* SPDX-License-Identifier: MIT */
/*
 * The manifest of a bundle of drivers. One that has no mistake names a file beside it, and says all
 * that `run --drivers` and `drivers` use; written anew it is the same. Each mistake is told in one
 * line of text.
 *
 * About: client/host/manifest.c
 */
#include "config.h"

#include "client/host/manifest.h"
#include "tests/fuzz/fuzz.h"

const char fuzz_name[] = "manifest";

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static size_t told;

static void on_fault(void *userdata, unsigned line, const char *text)
{
	must(userdata == &told && line <= MANIFEST_SIZE_MAX + 1);
	must(*text && !strpbrk(text, "\n\r\033"));
	told++;
}

/* Writes what was parsed as `drivers make` does. */
static size_t write_manifest(const struct manifest *manifest, char *out, size_t size)
{
	char sum[SHA256_TEXT], device[MANIFEST_DEVICE_TEXT];
	int n = snprintf(out, size,
			 "kernel %s\nversion %s\nimage %s\nformat %s\nsize %llu\nsha256 %s\n",
			 manifest->kernel, manifest->version, manifest->image,
			 manifest_format_name(manifest->format), (unsigned long long)manifest->size,
			 manifest_sum_text(manifest->sha256, sum));

	for (size_t i = 0; i < manifest->n_devices; i++)
		n += snprintf(out + n, size - (size_t)n, "device %s\n",
			      manifest_device_format(&manifest->devices[i], device));
	must((size_t)n < size);
	return (size_t)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct manifest manifest, again;
	static char text[MANIFEST_SIZE_MAX];
	size_t faults, n;

	told = 0;
	faults = manifest_parse((const char *)data, size, on_fault, &told, &manifest);
	must(told == (faults < MANIFEST_FAULTS_MAX ? faults : MANIFEST_FAULTS_MAX));
	if (faults)
		return 0;
	must(manifest_is_word(manifest.kernel) && manifest_is_word(manifest.version));
	must(manifest_is_word(manifest.image) && !strchr(manifest.image, '/') &&
	     strcmp(manifest.image, "manifest"));
	must(manifest.size && manifest.size <= INT64_MAX);
	must(manifest.n_devices && manifest.n_devices <= MANIFEST_DEVICES_MAX);
	for (size_t i = 0; i < manifest.n_devices; i++)
		must(manifest_has(&manifest, manifest.devices[i].vendor,
				  manifest.devices[i].device));
	n = write_manifest(&manifest, text, sizeof(text));
	must(!manifest_parse(text, n, NULL, NULL, &again));
	must(!memcmp(&manifest, &again, sizeof(manifest)));
	return 0;
}

#define SUM "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

void fuzz_seeds(fuzz_write write)
{
	static const char good[] = "# made\nkernel 6.12.117-amd64\nversion 570.86.16\n"
				   "device 10de:2330\ndevice 1002:*\nimage drivers.erofs\n"
				   "format erofs\nsize 4096\nsha256 " SUM "\n";
	static const char iso[] = "kernel windows\nversion 1\ndevice 1234:1111\nimage i.iso\n"
				  "format iso\nsize 1\nsha256 " SUM;
	static const char wrong[] = "kernal 1\r\nversion\ndevice 10de\nimage ../x\nformat zip\n"
				    "size 0\nsha256 00\ncolour red\nversion 1\nversion 2\n\001\n";

	write("good", good, sizeof(good) - 1);
	write("iso", iso, sizeof(iso) - 1);
	write("wrong", wrong, sizeof(wrong) - 1);
	write("nul", good, 30);
}
