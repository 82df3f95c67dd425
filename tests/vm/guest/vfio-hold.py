# vfio-hold.py FILE: takes each function of GPUBROKER_VGPU as a VMM does (group, container, IOMMU, device), writes
# "vendor:device" of each to FILE, and waits for its end. Started by `gpubroker run`, whose descriptors come in
# place of its own opens. Where many are to be held it stands for a QEMU, which takes long to start.
import fcntl, os, signal, struct, sys

SET_IOMMU, SET_CONTAINER, GET_DEVICE, GET_REGION = 0x3b66, 0x3b68, 0x3b6a, 0x3b6c
TYPE1, CONFIG = 1, 7
kept, found = [], []
for address in os.environ['GPUBROKER_VGPU'].split():
	number = os.path.basename(os.readlink(f'/sys/bus/pci/devices/{address}/iommu_group'))
	group = os.open(f'/dev/vfio/{number}', os.O_RDWR)
	container = os.open('/dev/vfio/vfio', os.O_RDWR)
	fcntl.ioctl(group, SET_CONTAINER, struct.pack('i', container))
	fcntl.ioctl(container, SET_IOMMU, TYPE1)
	device = fcntl.ioctl(group, GET_DEVICE, bytearray(address.encode() + b'\0'))
	region = bytearray(struct.pack('IIIIQQ', 32, 0, CONFIG, 0, 0, 0))
	fcntl.ioctl(device, GET_REGION, region)
	vendor, device_id = struct.unpack('HH', os.pread(device, 4, struct.unpack('IIIIQQ', region)[5]))
	kept += [group, container, device]
	found.append(f'{vendor:04x}:{device_id:04x}')
with open(sys.argv[1], 'w') as file:
	file.write(' '.join(found) + '\n')
signal.pause()
