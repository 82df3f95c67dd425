/* SPDX-License-Identifier: MIT */
/*
 * The kernel that alice boots, in one file. It lists the PCI functions that its machine has on the serial
 * port, reads a register of each bochs display through its memory, and turns the machine off,
 * unless its command line ends in "stay", or in "yield": then it uses each device that is plugged in, and lets
 * go of each that the machine asks it for, as an operating system does. Linux would take minutes for that in an emulated machine inside
 * an emulated machine.
 * Started by QEMU's -kernel (multiboot): 32 bits, flat, no interrupts, no stack yet.
 */

#define MULTIBOOT_MAGIC 0x1badb002u

__attribute__((section(".multiboot"), used)) static const unsigned int multiboot[] = {
	MULTIBOOT_MAGIC,
	0,
	-MULTIBOOT_MAGIC,
};

static void outb(unsigned short port, unsigned char v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static void outw(unsigned short port, unsigned short v)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}

static void outl(unsigned short port, unsigned int v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

static unsigned int inl(unsigned short port)
{
	unsigned int v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static void put(const char *s)
{
	while (*s)
		outb(0x3f8, *s++);
}

static void put_hex(unsigned int v, int digits)
{
	while (digits--)
		outb(0x3f8, "0123456789abcdef"[v >> 4 * digits & 15]);
}

/* The configuration mechanism of old, which every PC has. */
static unsigned int config(unsigned int function, unsigned int reg)
{
	outl(0xcf8, 0x80000000u | function << 8 | reg);
	return inl(0xcfc);
}

static void config_write(unsigned int function, unsigned int reg, unsigned int v)
{
	outl(0xcf8, 0x80000000u | function << 8 | reg);
	outl(0xcfc, v);
}

/* The bochs display says which it is at 0x500 of its third region. */
static void ask_display(unsigned int function)
{
	unsigned int region = config(function, 0x18) & ~15u;

	config_write(function, 0x04, config(function, 0x04) | 2);
	put(" register ");
	put_hex(*(volatile unsigned short *)(region + 0x500), 4);
}

/* Gives each function behind a bridge of the root bus memory of its own, and switches that on. */
static void use_plugged(void)
{
	for (unsigned int bridge = 0; bridge < 256; bridge++) {
		unsigned int bus;

		if (config(bridge, 0) == 0xffffffffu || (config(bridge, 0x0c) >> 16 & 0x7f) != 1)
			continue;
		bus = config(bridge, 0x18) >> 8 & 0xff;
		for (unsigned int f = 0; f < 8; f++) {
			unsigned int function = bus << 8 | f;

			if (config(function, 0) == 0xffffffffu)
				continue;
			config_write(function, 0x10, 0xd0000000u + (bus << 25) + (f << 24));
			config_write(function, 0x04, config(function, 0x04) | 2);
			put("PLUGGED ");
			put_hex(config(function, 0) & 0xffff, 4);
			put(":");
			put_hex(config(function, 0) >> 16, 4);
			put("\n");
		}
	}
}

/*
 * q35's ports for hot-plug by ACPI (docs/specs/acpi_pci_hotplug in QEMU): choose a bus, read which of
 * its slots have something new, and which are to be given up; write those that are.
 */
static void yield(void)
{
	for (;;) {
		for (unsigned int bus = 0; bus < 6; bus++) {
			unsigned int asked;

			outl(0xcd0, bus);
			if (inl(0xcc0))
				use_plugged();
			asked = inl(0xcc4);
			if (!asked)
				continue;
			put("YIELD\n");
			outl(0xcc8, asked);
		}
		/* Long, and no `pause`: QEMU takes its one lock for each, and its monitor never gets it. */
		for (unsigned int i = 0; i < 2000000; i++)
			__asm__ volatile("");
	}
}

/* A line for each of the n numbers of functions from the first on that has one. */
static void list(unsigned int first, unsigned int n)
{
	for (unsigned int f = first; f < first + n; f++) {
		unsigned int id = config(f, 0);

		if (id == 0xffffffffu)
			continue;
		put("PCI ");
		put_hex(f >> 8, 2);
		put(":");
		put_hex(f >> 3 & 31, 2);
		put(".");
		put_hex(f & 7, 1);
		put(" ");
		put_hex(id & 0xffff, 4);
		put(":");
		put_hex(id >> 16, 4);
		put(" class ");
		put_hex(config(f, 8) >> 8, 6);
		if (id == 0x11111234u)
			ask_display(f);
		put("\n");
	}
}

__attribute__((used)) static void kernel(const unsigned int *info)
{
	const char *argument = (const char *)info[4];

	list(0, 256);
	/* Behind the bridges of that bus, where a PCI Express port has one slot. */
	for (unsigned int f = 0; f < 256; f++)
		if (config(f, 0) != 0xffffffffu && (config(f, 0x0c) >> 16 & 0x7f) == 1)
			list((config(f, 0x18) >> 8 & 0xff) << 8, 8);
	put("END\n");
	while (*argument)
		argument++;
	if (argument[-5] == 'y' && argument[-1] == 'd')
		yield();
	if (argument[-4] != 's' || argument[-3] != 't' || argument[-2] != 'a' ||
	    argument[-1] != 'y')
		outw(0x604, 0x2000); /* q35's ACPI: off */
	for (;;)
		__asm__ volatile("hlt");
}

__asm__(".globl _start\n_start: mov $stack + 4096, %esp\n push %ebx\n call kernel\n.comm stack, 4096, 16\n");
