package qemutest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

// Guest describes a machine to boot.
type Guest struct {
	Name    string // of the machine and its files
	QEMU    *QEMU
	Memory  int // MiB; 0: 256. Above 2816 part of it lies above the PCI hole
	CPUs    int // 0: 1
	NICs    []NIC
	Devices []Device
}

// NIC is a virtio-net device with a vhost-user back-end.
type NIC struct {
	Socket string
	Listen bool   // QEMU listens and the back-end connects
	MAC    string // what the guest's operations name it by
	Queues int    // queue pairs; 0: 1
	Props  string // more properties of the device: "mrg_rxbuf=off,event_idx=off"
}

// Device is another vhost-user device, for example vhost-user-rng-pci.
type Device struct {
	Driver string
	Socket string
	Props  string
}

// arguments are QEMU's. The control sockets and the console lie in dir.
func (g *Guest) arguments(dir string, k *Kernel, i *initramfs, kvm bool) []string {
	memory := strconv.Itoa(g.memory())
	args := []string{
		"-name", g.Name,
		"-M", "q35,memory-backend=mem0",
		"-smp", strconv.Itoa(max(g.CPUs, 1)),
		"-m", memory,
		// Shared memory is what a vhost-user back-end maps.
		"-object", "memory-backend-memfd,id=mem0,size=" + memory + "M,share=on",
		"-action", "reboot=shutdown", // see Machine.restart
		"-nodefaults", "-no-user-config", "-display", "none",
		"-kernel", k.Image,
		"-initrd", i.path,
		"-append", commandLine(i, kvm),
		"-serial", "file:" + filepath.Join(dir, g.Name+".console"),
		// QEMU connects to us: no waiting for it to listen.
		"-chardev", "socket,id=qmp,path=" + filepath.Join(dir, g.Name+".qmp"),
		"-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=agent,path=" + filepath.Join(dir, g.Name+".agent"),
		"-device", "virtio-serial-pci",
		"-device", "virtserialport,chardev=agent,name=" + guestapi.Port,
	}
	if kvm {
		args = append(args, "-accel", "kvm", "-cpu", "host")
	} else {
		args = append(args, "-accel", "tcg", "-cpu", "max")
	}
	for _, path := range g.QEMU.Data {
		args = append(args, "-L", path)
	}
	for n, nic := range g.NICs {
		args = append(args, nic.arguments(n, g.QEMU)...)
	}
	for n, d := range g.Devices {
		args = append(args, d.arguments(n)...)
	}
	return args
}

func (g *Guest) memory() int {
	if g.Memory == 0 {
		return 256
	}
	return g.Memory
}

func (n NIC) arguments(i int, q *QEMU) []string {
	pairs := max(n.Queues, 1)
	chardev := fmt.Sprintf("socket,id=net%d,path=%s,", i, n.Socket)
	if n.Listen {
		chardev += "server=on,wait=off"
	} else {
		chardev += q.reconnect()
	}
	// romfile=: no boot firmware for the card, which only costs time.
	device := fmt.Sprintf("virtio-net-pci,netdev=dev%d,mac=%s,romfile=", i, n.MAC)
	vectors := 2*pairs + 2 // one a ring, control, configuration
	if q.needsINTx() {
		vectors = 0
	}
	if pairs > 1 {
		device += ",mq=on"
	}
	device += fmt.Sprintf(",vectors=%d", vectors)
	if n.Props != "" {
		device += "," + n.Props
	}
	return []string{
		"-chardev", chardev,
		"-netdev", fmt.Sprintf("vhost-user,id=dev%d,chardev=net%d,queues=%d", i, i, pairs),
		"-device", device,
	}
}

// arguments of a device have no reconnect option: QEMU would connect later, and
// such devices, other than network devices, do not wait for that.
func (d Device) arguments(i int) []string {
	device := fmt.Sprintf("%s,chardev=vu%d", d.Driver, i)
	if d.Props != "" {
		device += "," + d.Props
	}
	return []string{
		"-chardev", fmt.Sprintf("socket,id=vu%d,path=%s", i, d.Socket),
		"-device", device,
	}
}

// commandLine is the kernel's. Under TCG the calibration of timers against each
// other fails at random while the host is busy, so the kernel is told.
func commandLine(i *initramfs, kvm bool) string {
	words := []string{"console=ttyS0", "loglevel=5", "panic=-1", "modules=" + i.modules}
	if khz := hostTSC(); khz > 0 && !kvm {
		words = append(words, fmt.Sprintf("tsc_early_khz=%d", khz), fmt.Sprintf("lpj=%d", 2*khz),
			"no_timer_check", "tsc=reliable")
	}
	return strings.Join(words, " ")
}

// hostTSC is the frequency of the host's time stamp counter in kHz, 0 if unknown.
func hostTSC() int {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) != "bogomips" {
			continue
		}
		if mips, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
			return int(mips * 500)
		}
	}
	return 0
}
