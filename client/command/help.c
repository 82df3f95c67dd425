/* SPDX-License-Identifier: MIT */
/*
 * The help of each command, see help.h: a screen of 24 lines of 80 columns, its examples at the
 * end. tests/cli.t compares the options in it with those that the command takes, and complete.c
 * takes them from here.
 */
#include "config.h"

#include "client/command/help.h"
#include "client/common/nearness.h"
#include "client/common/util.h"

#include <string.h>

static const char usage_of_all[] =
	"usage: gpubroker [--socket PATH] COMMAND [...]\n"
	"\n"
	"  list [--all] [--json]        the GPUs (--all: every PCI function)\n"
	"  run [--gpu DEVICE]... [OPTION]... -- COMMAND [ARG...]\n"
	"                               claim DEVICE and run COMMAND, a VMM, with it\n"
	"  attach, detach --qmp SOCKET DEVICE   plug DEVICE into a QEMU that runs, unplug\n"
	"  profiles [DEVICE], drivers   parts of devices to claim; drivers for guests\n"
	"  leases [--waiting] [--json]  who has which device, and who waits for one\n"
	"  usage [--since TIME]         who had which device, for how long; metrics\n"
	"  doctor [DEVICE] [--json]     what stands in the way, and what would help\n"
	"  release LEASE                end a lease or a waiting claim of your own\n"
	"  watch [--json], serve        changes of leases and the queue; all over HTTP\n"
	"  policy check [FILE...]       show every mistake in the policy\n"
	"  policy what [--user USER]    all that you may have, or USER\n"
	"  policy explain DEVICE        whether you may have DEVICE, and by which rule\n"
	"  policy add --user U DEVICE   let user U have DEVICE, and load that (root)\n"
	"  policy edit, reload, install change the policy, load it, set up the boot (root)\n"
	"  revoke LEASE [--after TIME]  end anybody's lease or waiting claim (root)\n"
	"  allot, retract, allotments   promise devices to a user, as clusters do (root)\n"
	"  prepare, restore DEVICE      put a device onto VFIO, or give it back (root)\n"
	"  vfs DEVICE N                 create N virtual functions (root)\n"
	"  help [COMMAND], --version\n"
	"\n"
	"DEVICE is a PCI address, iommu-group:N, a name from the policy, or any.\n"
	"'gpubroker COMMAND --help' has the options and examples of a command.\n";

static const struct help {
	const char *command, *what, *text;
} helps[] = {
	{ "list", "the GPUs and their status",
	  "usage: gpubroker list [--all] [--tree] [--wide | --columns LIST | --json]\n"
	  "                      [--from FILE]\n"
	  "\n"
	  "Shows the GPUs of this host, their drivers, IOMMU groups and status.\n"
	  "\n"
	  "  --all           every PCI function, not GPUs alone\n"
	  "  --tree          what comes along with each, VFs and profiles below it\n"
	  "  --wide          all columns\n"
	  "  --columns LIST  these: gpu, name, you, status, address, model, driver, group,\n"
	  "                  node, path, serial\n"
	  "  --json          for programs\n"
	  "  --from FILE     another host's, from its 'gpubroker doctor --snapshot'\n"
	  "\n"
	  "YOU says whether the policy lets you claim it. What is not a terminal gets other\n"
	  "columns, which stay as they are.\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker list\n"
	  "  gpubroker list --columns address,name,status\n"
	  "  gpubroker list --json | jq -r '.[] | select(.allowed) | .address'\n" },
	{ "run", "claim devices and run a VMM with them",
	  "usage: gpubroker run [--gpu DEVICE]... [OPTION]... -- COMMAND [ARG...]\n"
	  "\n"
	  "Claims DEVICE and runs COMMAND, a VMM or a script that starts one, with it.\n"
	  "\n"
	  "  --gpu DEVICE       a PCI address, iommu-group:N, a name of the policy, or any\n"
	  "  --profile PROFILE  a part of that DEVICE, see 'gpubroker profiles'\n"
	  "  --memory SIZE      the smallest of that DEVICE with so much memory, as 8G\n"
	  "  --allotment LABEL  all of what is allotted to you under LABEL\n"
	  "  --wait[=TIME]      wait in the queue, for TIME at most, as --wait=30m\n"
	  "  --force            also a device that shows the console, if its rule allows it\n"
	  "  --memlock SIZE     less locked memory than the rule grants\n"
	  "  --progress=json[,FD]  the steps for a program, an object a line\n"
	  "  --iommufd          devices' own nodes and an iommufd, for VMMs that use them\n"
	  "  --qemu             add the arguments that give the devices to QEMU\n"
	  "  --rom FILE         with --qemu: the card's video BIOS\n"
	  "  --primary          with --qemu: the VM's only display\n"
	  "  --drivers[=NAME]   with --qemu: a disk with drivers for the guest, see\n"
	  "                     'gpubroker drivers'\n"
	  "  --verbose          with --qemu: show all of these arguments\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker run --gpu 01:00.0 --qemu -- qemu-system-x86_64 -m 8G disk.qcow2\n"
	  "  gpubroker run --gpu any --memory 24G --wait=2h -- ./train-vm.sh\n"
	  "  gpubroker run --gpu teaching --gpu teaching --qemu -- ./two-cards.sh\n" },
	{ "attach", "plug a device into a QEMU that runs",
	  "usage: gpubroker attach --qmp SOCKET [OPTION...] DEVICE\n"
	  "\n"
	  "Claims DEVICE for a QEMU of yours that runs, and plugs it behind a free PCI\n"
	  "Express root port. It needs QEMU 9.0 and iommufd in the kernel, or a QEMU that\n"
	  "'gpubroker run' has started.\n"
	  "\n"
	  "  --qmp SOCKET   of QEMU's monitor: QEMU's -qmp unix:SOCKET,server=on,wait=off\n"
	  "  --port ID      this root port, of QEMU's -device pcie-root-port,id=ID\n"
	  "  --profile P    a part of DEVICE (mdev, vGPU), see 'gpubroker profiles'\n"
	  "  --wait[=TIME]  wait until DEVICE is free, at most TIME, as 30s, 10m or 8h\n"
	  "  --json         print what was attached as JSON\n"
	  "\n"
	  "The lease ends when QEMU lets go of the device, as after 'gpubroker detach'.\n"
	  "\n"
	  "Examples:\n"
	  "  qemu-system-x86_64 -machine q35 -qmp unix:vm.qmp,server=on,wait=off \\\n"
	  "    -device pcie-root-port,id=spare1,chassis=101 ...\n"
	  "  gpubroker attach --qmp vm.qmp 01:00.0\n"
	  "  gpubroker attach --qmp vm.qmp teaching\n" },
	{ "detach", "unplug what was attached",
	  "usage: gpubroker detach --qmp SOCKET DEVICE\n"
	  "\n"
	  "Has QEMU unplug DEVICE, which 'gpubroker attach' has plugged, and waits for the\n"
	  "guest and the end of the lease. DEVICE is an address, the UUID of an mdev,\n"
	  "iommu-group:N, or any.\n"
	  "\n"
	  "  --qmp SOCKET  of QEMU's monitor\n"
	  "  --json        print the number of the lease that has ended as JSON\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker detach --qmp vm.qmp 01:00.0\n"
	  "  gpubroker detach --qmp vm.qmp any\n" },
	{ "profiles", "parts of devices that drivers offer to make",
	  "usage: gpubroker profiles [DEVICE] [--json]\n"
	  "\n"
	  "Shows the parts (mediated devices, vGPUs) that drivers offer to make of DEVICE,\n"
	  "or of all devices: how much memory each has, and how many more can be made.\n"
	  "\n"
	  "  --json   for programs\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker profiles\n"
	  "  gpubroker profiles 00:02.0\n"
	  "  gpubroker run --gpu 00:02.0 --profile i915-GVTg_V5_4 --qemu -- ./vm.sh\n" },
	{ "drivers", "drivers for guests, which run --drivers adds",
	  "usage: gpubroker drivers [--directory DIR] [--verify] [--json]\n"
	  "       gpubroker drivers make NAME DIRECTORY [...]\n"
	  "\n"
	  "Shows the bundles of drivers that root has made for guests: for which kernel and\n"
	  "devices each is. 'gpubroker run --qemu --drivers' adds the one that fits.\n"
	  "\n"
	  "  --directory DIR  those in DIR, not in /usr/share/gpubroker/drivers\n"
	  "  --verify         read each image, and compare it with its checksum\n"
	  "  --json           for programs\n"
	  "\n"
	  "HERE is how many GPUs of this host it is for. Exits with 65 if one is bad.\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker drivers\n"
	  "  gpubroker run --gpu 01:00.0 --qemu --drivers -- qemu-system-x86_64 ...\n" },
	{ "drivers make", "build a bundle of drivers from a directory",
	  "usage: gpubroker drivers make NAME DIRECTORY --kernel KERNEL\n"
	  "             --version VERSION --device DEVICE... [--iso] [--output DIR]\n"
	  "\n"
	  "Makes an image of DIRECTORY and a manifest. The same DIRECTORY gives the same\n"
	  "bytes. It needs mkfs.erofs (erofs-utils), or for --iso xorriso or genisoimage.\n"
	  "\n"
	  "  --kernel KERNEL    of the guest, as 'uname -r' prints it there\n"
	  "  --version VERSION  of the drivers\n"
	  "  --device DEVICE    for which they are, as 10de:2330, or 10de:* for all of 10de\n"
	  "  --iso              an ISO, which is a CD for the guest: for Windows\n"
	  "  --output DIR       there, not in /usr/share/gpubroker/drivers, which is root's\n"
	  "\n"
	  "Examples:\n"
	  "  depmod -b ./tree 6.12.117-amd64\n"
	  "  gpubroker drivers make nvidia-570 ./tree --kernel 6.12.117-amd64 \\\n"
	  "    --version 570.86.16 --device 10de:*\n" },
	{ "leases", "who has which device, and who waits",
	  "usage: gpubroker leases [--waiting] [--wide | --columns LIST | --json]\n"
	  "\n"
	  "Shows who has which device since when and until when, with which program, and\n"
	  "who waits for it. For root, also the processes that have a stuck device open.\n"
	  "\n"
	  "  --waiting       the claims that wait, alone\n"
	  "  --wide          all columns\n"
	  "  --columns LIST  these: lease, user, held, ends, device, command, pid, state,\n"
	  "                  since, group, migrates, rule, allotment\n"
	  "  --json          for programs\n"
	  "\n"
	  "What is not a terminal gets other columns, which stay as they are.\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker leases\n"
	  "  gpubroker leases --columns lease,user,device,rule\n"
	  "  gpubroker leases --json | jq -r '.[] | select(.state == \"stuck\") | .reason'\n" },
	{ "usage", "who had which device, for how long",
	  "usage: gpubroker usage [--since TIME] [--user USER] [--json]\n"
	  "\n"
	  "Shows for how long each user had each device; leases that go on count up to now.\n"
	  "Root sees all users, others themselves.\n"
	  "\n"
	  "  --since TIME  from then on: a day as 2026-11-01 or today, or 7d, 8h ago\n"
	  "  --user USER   this user alone\n"
	  "  --json        each lease, for programs\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker usage --since 30d\n"
	  "  gpubroker usage --user alice --since 2026-11-01\n"
	  "  gpubroker usage --json | jq 'map(.seconds) | add / 3600'\n" },
	{ "metrics", "what a monitoring system collects",
	  "usage: gpubroker metrics [--output FILE]\n"
	  "\n"
	  "Writes OpenMetrics text: leases, waiting claims, GPUs, the policy; for root also\n"
	  "refusals and how long each user had each device.\n"
	  "\n"
	  "  --output FILE  there, whole at any time; its mode is 0644\n"
	  "\n"
	  "gpubroker-metrics.timer does so for node_exporter's textfile collector.\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker metrics\n"
	  "  systemctl enable --now gpubroker-metrics.timer\n" },
	{ "release", "end a lease of your own",
	  "usage: gpubroker release LEASE [--json]\n"
	  "\n"
	  "Asks the holder of a lease of your own to give its devices back, as a VM does\n"
	  "when they are unplugged; or ends a claim of yours that waits.\n"
	  "\n"
	  "  --json   for programs\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker leases\n"
	  "  gpubroker release 3\n" },
	{ "watch", "changes as they happen",
	  "usage: gpubroker watch [--json]\n"
	  "\n"
	  "Shows changes of leases, of devices and of the queue as they happen, a line\n"
	  "each, until it is interrupted. On a terminal it begins with the leases.\n"
	  "\n"
	  "  --json   for programs: one object a line\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker watch\n"
	  "  gpubroker watch --json | jq -r 'select(.state == \"stuck\") | .reason'\n" },
	{ "doctor", "what stands in the way, and what would help",
	  "usage: gpubroker doctor [DEVICE] [--memory SIZE] [--from FILE] [--json]\n"
	  "       gpubroker doctor --snapshot FILE\n"
	  "\n"
	  "Checks all that must be so before a GPU can be lent to you: IOMMU, modules,\n"
	  "nodes, broker, policy, session, KVM, memory; and for DEVICE, a PCI address, its\n"
	  "group, use, reset, NUMA node, rule and locked memory. Changes nothing. Exits\n"
	  "with 1 if a check failed.\n"
	  "\n"
	  "  --memory SIZE    whether a VM of SIZE, as 16G, would have room\n"
	  "  --snapshot FILE  write what it knows into a new FILE for a bug report, without\n"
	  "                   serial numbers or names of users\n"
	  "  --from FILE      answer for the host that wrote FILE so\n"
	  "  --json           for programs\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker doctor 01:00.0 --memory 16G\n"
	  "  gpubroker doctor --snapshot report.json\n"
	  "  gpubroker doctor --from report.json 01:00.0\n"
	  "  gpubroker doctor --json | jq -r '.[] | select(.result == \"FAIL\") | .cure'\n" },
	{ "policy", "check, explain or install the policy",
	  "usage: gpubroker policy COMMAND [...]\n"
	  "\n"
	  "  check [FILE...]             every mistake of the policy, before it is in force\n"
	  "  what [--user USER]          all that you may have, or USER\n"
	  "  explain [--user USER] DEVICE  whether you may have DEVICE, or USER, and why\n"
	  "  add --user USER DEVICE      let USER have DEVICE, and load that (root)\n"
	  "  edit [FILE]                 change a file with an editor, and load it (root)\n"
	  "  reload                      load the policy, and wait for the verdict (root)\n"
	  "  install                     set up what prepare rules need at boot (root)\n"
	  "\n"
	  "The policy is /etc/gpubroker/policy.d/*.policy, see gpubroker.policy(5).\n"
	  "'gpubroker policy COMMAND --help' has the options and examples of each.\n" },
	{ "policy check", "every mistake in the policy",
	  "usage: gpubroker policy check [--policy DIR]... [--devices FILE] [FILE...]\n"
	  "\n"
	  "Shows every mistake in the policy files, and warns of what no device can match.\n"
	  "Changes nothing; anybody may.\n"
	  "\n"
	  "  --policy DIR    read DIR instead of /etc/gpubroker/policy.d\n"
	  "  --devices FILE  another host's devices, by 'gpubroker list --all --json' or\n"
	  "                  'gpubroker doctor --snapshot' there\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker policy check && gpubroker policy reload\n"
	  "  gpubroker policy check --devices node7.json draft.policy\n" },
	{ "policy explain", "whether a user may have a device, and why",
	  "usage: gpubroker policy explain [--policy DIR]...\n"
	  "                [--devices FILE | --profile PROFILE] [--user USER] DEVICE\n"
	  "\n"
	  "Says whether USER may have DEVICE, by which rule and with which limits, or what\n"
	  "stands in the way. Claims nothing; anybody may. Without DEVICE: 'policy what'.\n"
	  "\n"
	  "  --user USER        a name or a uid; you, if it is not given\n"
	  "  --profile PROFILE  a part of DEVICE\n"
	  "  --policy DIR       read DIR instead of /etc/gpubroker/policy.d\n"
	  "  --devices FILE     another host's devices, by 'gpubroker list --all --json' or\n"
	  "                     'gpubroker doctor --snapshot' there\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker policy explain --user alice 01:00.0\n"
	  "  gpubroker policy explain --user bob teaching\n" },
	{ "policy what", "all that a user may have",
	  "usage: gpubroker policy what [--user USER]\n"
	  "\n"
	  "Shows all that you may claim, or USER: by which rule, with which limits, and for\n"
	  "each device whether it is free, or who has it.\n"
	  "\n"
	  "  --user USER  a name or a uid\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker policy what\n"
	  "  gpubroker policy what --user bob\n" },
	{ "policy add", "let a user or group have a device (root)",
	  "usage: gpubroker policy add (--user USER | --group GROUP) [OPTION]... DEVICE\n"
	  "\n"
	  "Adds a rule to the policy, checks it, and has the broker load it. DEVICE is an\n"
	  "address, a model as 10de:1eb8, a name from the policy, or any.\n"
	  "\n"
	  "  --user USER     a name or a uid\n"
	  "  --group GROUP   all of its members\n"
	  "  --memlock SIZE  locked memory: a little more than the VM has, as 20G\n"
	  "  --limit N       so many leases at once\n"
	  "  --for TIME      each lease ends after TIME, as 8h\n"
	  "  --file FILE     of /etc/gpubroker/policy.d; 50-local.policy otherwise\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker policy add --user alice 01:00.0 --memlock 20G\n"
	  "  gpubroker policy add --group students any --limit 1 --for 8h\n" },
	{ "policy edit", "change a file of the policy with an editor (root)",
	  "usage: gpubroker policy edit [FILE]\n"
	  "\n"
	  "Edits a file of /etc/gpubroker/policy.d, 50-local.policy if none is given, with\n"
	  "$VISUAL or $EDITOR. It is checked first; then the broker loads it.\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker policy edit\n"
	  "  EDITOR=nano gpubroker policy edit 10-lab\n" },
	{ "policy reload", "load the policy and wait for the verdict (root)",
	  "usage: gpubroker policy reload [--json]\n"
	  "\n"
	  "Has the broker load the policy, and waits. If it has mistakes, shows them, and\n"
	  "exits with 65; the policy that was in force stays so.\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker policy reload\n" },
	{ "policy install", "set up what prepare rules need at boot",
	  "usage: gpubroker policy install [--policy DIR]... [--root DIR]\n"
	  "                                [--devices FILE] [--keep]\n"
	  "\n"
	  "Writes the udev rules that have devices of prepare rules on vfio-pci at boot.\n"
	  "The broker does so at each reload; by hand it is for an image of another system.\n"
	  "\n"
	  "  --policy DIR    read DIR instead of /etc/gpubroker/policy.d\n"
	  "  --root DIR      the root directory of that system\n"
	  "  --devices FILE  its devices, from its 'gpubroker list --all --json'\n"
	  "  --keep          keep the ids that were seen when the rules were written before\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker policy install\n"
	  "  gpubroker policy install --root /mnt/image --devices node7.json\n" },
	{ "revoke", "end anybody's lease (root)",
	  "usage: gpubroker revoke LEASE [--after TIME] [--kill[=GRACE]] [--json]\n"
	  "\n"
	  "Asks the holder of anybody's lease to give its devices back, or ends a claim\n"
	  "that waits. Only root may.\n"
	  "\n"
	  "  --after TIME     the holder is told now, and asked after TIME, as 30s or 1h30m\n"
	  "  --kill[=GRACE]   a holder that does not let go within 10 seconds is ended: by\n"
	  "                   SIGTERM, and by SIGKILL after GRACE (30s)\n"
	  "  --json           for programs\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker leases\n"
	  "  gpubroker revoke 3 --after 10m\n"
	  "  gpubroker revoke 3 --kill=1m\n" },
	{ "allot", "promise devices to a user (root)",
	  "usage: gpubroker allot --user USER --for LABEL [OPTION...] DEVICE...\n"
	  "\n"
	  "Reserves each DEVICE, with its IOMMU group, for USER alone, until it is retracted.\n"
	  "The policy must have a rule for that, as 'allow allotted claim class display'.\n"
	  "USER's 'gpubroker run' then takes these devices by itself. Only root may.\n"
	  "\n"
	  "  --user USER   a name or a uid\n"
	  "  --for LABEL   for whom or what, as slurm-17: letters, digits and ._:@-\n"
	  "  --until TIME  retracted then: 8h, 18:30, '2026-12-24 18:30' or @1790000000\n"
	  "  --socket NAME a socket for a container: whoever connects there is the allotment\n"
	  "\n"
	  "The same LABEL once more gives USER more devices, or another --until.\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker allot --user bob --for slurm-17 01:00.0 02:00.0\n"
	  "  gpubroker allot --user bob --for course --until 18:00 teaching\n" },
	{ "retract", "take an allotment away (root)",
	  "usage: gpubroker retract LABEL [--wait[=TIME]]\n"
	  "\n"
	  "Takes away what is allotted under LABEL, revokes the leases by it, and waits until\n"
	  "the host has its devices. Exits with 75 if one is stuck, or if its holder does\n"
	  "not let go; it goes back later by itself. Only root may.\n"
	  "\n"
	  "  --wait[=TIME]  wait for these too, for TIME at most, as --wait=30s\n"
	  "\n"
	  "Exits with 0 if nothing is allotted under LABEL.\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker retract slurm-17\n"
	  "  gpubroker retract slurm-17 --wait=1m\n" },
	{ "allotments", "which devices are allotted to whom",
	  "usage: gpubroker allotments [--json]\n"
	  "\n"
	  "Shows what root has allotted: under which label, to whom, since when and until\n"
	  "when, and for each device whether it is free or leased by its user.\n"
	  "\n"
	  "  --json   for programs\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker allotments\n"
	  "  gpubroker allotments --json | jq -r '.[] | select(.own) | .label'\n" },
	{ "slurm", "devices that root allots, as Slurm counts them",
	  "usage: gpubroker slurm gres [OPTION]...\n"
	  "       gpubroker slurm check [--map FILE]\n"
	  "       gpubroker slurm job --id JOB --node N [--known LIST]\n"
	  "\n"
	  "For a node of a Slurm cluster, see gpubroker-slurm(7). 'gres' makes gres.conf of\n"
	  "what root may allot, 'check' says which of it no job can have now.\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker slurm gres --write\n" },
	{ "slurm gres", "make gres.conf of what root may allot",
	  "usage: gpubroker slurm gres [--write] [--type NAME]... [--node NODE]\n"
	  "                            [--policy DIR]... [--devices FILE]\n"
	  "\n"
	  "Prints the gres.conf of this node: a line for each device that a rule with\n"
	  "'allotted' allows, with the name in that rule as its type.\n"
	  "\n"
	  "  --write         write /etc/slurm/gres.conf, the map for the prolog,\n"
	  "                  and the nodes that stand for the devices (root)\n"
	  "  --type NAME     only devices that the policy calls NAME, as this type\n"
	  "  --node NODE     Slurm's name of this node, if it is not the host's\n"
	  "  --policy DIR    read DIR instead of /etc/gpubroker/policy.d\n"
	  "  --devices FILE  another host's, from its 'gpubroker list --all --json'\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker slurm gres --type a100 --type l40s\n"
	  "  gpubroker slurm gres --write\n" },
	{ "slurm check", "which devices Slurm must not use now",
	  "usage: gpubroker slurm check [--map FILE]\n"
	  "\n"
	  "Says which of this node's devices are stuck or gone, a line each, and exits with\n"
	  "75 then. Slurm's health check drains the node with these lines.\n"
	  "\n"
	  "  --map FILE  instead of /etc/gpubroker/slurm.map\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker slurm check && echo well\n" },
	{ "slurm job", "which GPUs Slurm has given to a job here",
	  "usage: gpubroker slurm job --id JOB --node N [--known LIST]\n"
	  "\n"
	  "For the prolog: prints the numbers of the GPUs, of all types, that JOB has on\n"
	  "the Nth of its nodes. Those of LIST must be among them.\n"
	  "\n"
	  "Examples:\n"
	  "  scontrol show job 17 --json | gpubroker slurm job --id 17 --node 1\n" },
	{ "restore", "give a device back to its host driver (root)",
	  "usage: gpubroker restore DEVICE [--json]\n"
	  "\n"
	  "Gives a device that is on a VFIO driver, and not lent, back to its host driver,\n"
	  "with what shares its IOMMU group. Only root may. DEVICE is a PCI address.\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker list\n"
	  "  gpubroker restore 01:00.0\n" },
	{ "prepare", "put a free device onto its VFIO driver (root)",
	  "usage: gpubroker prepare DEVICE [--force] [--json]\n"
	  "\n"
	  "Puts a device that is free onto its VFIO driver now, with what shares its IOMMU\n"
	  "group, until the next boot or 'gpubroker restore'. Only root may. DEVICE is a\n"
	  "PCI address. A prepare rule of the policy does so at each boot.\n"
	  "\n"
	  "  --force  also what programs of the host have open\n"
	  "  --json   for programs\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker prepare 01:00.0\n"
	  "  gpubroker list\n"
	  "  gpubroker restore 01:00.0\n" },
	{ "serve", "these commands over HTTP, as yourself",
	  "usage: gpubroker serve [--http PATH] [--port PORT]\n"
	  "\n"
	  "Serves you, and nobody else, over HTTP: devices, leases, claims, events. What\n"
	  "may be asked is in gpubroker-serve(1) and /usr/share/gpubroker/openapi.json.\n"
	  "\n"
	  "  --http PATH  a Unix socket there, not at $XDG_RUNTIME_DIR/gpubroker/http\n"
	  "  --port PORT  on 127.0.0.1 too, for who knows the token in the file beside it\n"
	  "\n"
	  "A machine that a claim starts is a script of yours in\n"
	  "~/.config/gpubroker/machines.\n"
	  "\n"
	  "Examples:\n"
	  "  systemctl --user enable --now gpubroker-serve.socket\n"
	  "  curl --unix-socket $XDG_RUNTIME_DIR/gpubroker/http http://gpu/v1/devices\n" },
	{ "vfs", "create virtual functions (root)",
	  "usage: gpubroker vfs DEVICE N [--json]\n"
	  "\n"
	  "Creates N virtual functions of a physical function, 0 for none. Only root may.\n"
	  "DEVICE is a PCI address. `vfs N` in a prepare rule does the same at each boot.\n"
	  "\n"
	  "Examples:\n"
	  "  gpubroker vfs 3b:00.0 4\n"
	  "  gpubroker run --gpu 3b:00.2 --qemu -- ./vm.sh\n" },
};

/* Names of such a command in other programs. */
static const struct {
	const char *name, *command;
} elsewhere[] = {
	{ "ls", "list" },
	{ "devices", "list" },
	{ "ps", "leases" },
	{ "status", "leases" },
	{ "queue", "leases" },
	{ "who", "leases" },
	{ "history", "usage" },
	{ "accounting", "usage" },
	{ "stats", "metrics" },
	{ "claim", "run" },
	{ "allocate", "allot" },
	{ "reserve", "allot" },
	{ "assign", "allot" },
	{ "deallot", "retract" },
	{ "reservations", "allotments" },
	{ "exec", "run" },
	{ "start", "run" },
	{ "plug", "attach" },
	{ "hotplug", "attach" },
	{ "unplug", "detach" },
	{ "eject", "detach" },
	{ "monitor", "watch" },
	{ "events", "watch" },
	{ "kill", "revoke" },
	{ "stop", "revoke" },
	{ "unbind", "run" },
	{ "free", "release" },
	{ "return", "release" },
	{ "check", "policy check" },
	{ "explain", "policy explain" },
	{ "install", "policy install" },
	{ "version", "--version" },
	{ "mdev", "profiles" },
	{ "driver", "drivers" },
	{ "bundles", "drivers" },
	{ "types", "profiles" },
	{ "sriov", "vfs" },
	{ "gres", "slurm gres" },
	{ "unset-override", "restore" },
	{ "bind", "prepare" },
	{ "set-override", "prepare" },
	{ "nodedev-detach", "prepare" },
	{ "nodedev-reattach", "restore" },
};

void help_print_all(FILE *file)
{
	fputs(usage_of_all, file);
}

const char *help_command(size_t i)
{
	return i < ARRAY_SIZE(helps) ? helps[i].command : NULL;
}

const char *help_what(const char *command)
{
	for (size_t i = 0; i < ARRAY_SIZE(helps); i++)
		if (!strcmp(helps[i].command, command))
			return helps[i].what;
	return NULL;
}

const char *help_text(const char *command)
{
	for (size_t i = 0; i < ARRAY_SIZE(helps); i++)
		if (!strcmp(helps[i].command, command))
			return helps[i].text;
	return NULL;
}

void help_print(FILE *file, const char *command)
{
	const char *text = help_text(command);

	fputs(text ? text : usage_of_all, file);
}

const char *help_meant(const char *given)
{
	const char *names[ARRAY_SIZE(helps)];

	for (size_t i = 0; i < ARRAY_SIZE(elsewhere); i++)
		if (!strcmp(elsewhere[i].name, given))
			return elsewhere[i].command;
	for (size_t i = 0; i < ARRAY_SIZE(helps); i++)
		names[i] = helps[i].command;
	return nearness_best(given, names, ARRAY_SIZE(names));
}
