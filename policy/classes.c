/* SPDX-License-Identifier: MIT */
/*
 * The words for PCI class codes, in one table. See the PCI Code and ID Assignment Specification,
 * chapter 1. A word here is not reserved: a device may have it as its name.
 */
#include "config.h"

#include "policy/classes.h"

#include <string.h>

#include "client/common/util.h"

static const struct class_word class_words[] = {
	{ .text = "display", .code = 0x030000, .mask = 0xff0000 },
	/* 0401 (audio device) and 0403 (HD audio), which differ in one bit; 0400 is video. */
	{ .text = "audio", .code = 0x040100, .mask = 0xfffd00 },
	{ .text = "usb", .code = 0x0c0300, .mask = 0xffff00 },
	{ .text = "network", .code = 0x020000, .mask = 0xff0000 },
	{ .text = "storage", .code = 0x010000, .mask = 0xff0000 },
	{ .text = "accelerator", .code = 0x120000, .mask = 0xff0000 },
};

const struct class_word *classes_find(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(class_words); i++)
		if (!strcmp(class_words[i].text, text))
			return &class_words[i];
	return NULL;
}

const char *classes_text(size_t i)
{
	return i < ARRAY_SIZE(class_words) ? class_words[i].text : NULL;
}
