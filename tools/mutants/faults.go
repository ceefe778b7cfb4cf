package main

// fault is a mistake that a back-end might make: in file, old, which is there
// once, becomes new. It breaks one rule, whose test must fail.
type fault struct {
	rule     int
	what     string
	file     string // from the top of the repository
	old, new string
	test     string
}

// faults are one for each of the rules, of those with a star, that one small
// change can break without breaking another.
var faults = []fault{
	{
		rule: 6, what: "files stay open when a connection ends inside a message",
		file: "vhost/wire.go", test: "TestUnexpectedFilesAreClosed",
		old: "if err != nil {\n\t\tw.fds.Close()\n", new: "if err != nil {\n",
	},
	{
		rule: 8, what: "one message is never acknowledged",
		file: "vhost/dispatch.go", test: "TestNeedReplyIsAcknowledgedOnce",
		old: "if reply == nil && s.wantsAck(m) {", new: "if reply == nil && request != ResetOwner && s.wantsAck(m) {",
	},
	{
		rule: 20, what: "a ring begins anew when LOG_ALL is switched",
		file: "vhost/state.go", test: "TestLogAllSwitchesWhileRingsRun",
		old: "if v != nil && r.phase != ringRunning {", new: "if v != nil && (r.phase != ringRunning || old != nil && old.Features != v.Features) {",
	},
	{
		rule: 21, what: "rings wait for SET_VRING_ENABLE without PROTOCOL_FEATURES",
		file: "vhost/features.go", test: "TestWithoutProtocolFeaturesRingsAreEnabled",
		old: "if !f.Has(virtio.FeatureProtocol) {", new: "if false {",
	},
	{
		rule: 24, what: "XEN_MMAP is offered",
		file: "vhost/features.go", test: "TestUnkeptPromisesAreNotOffered",
		old: "ProtocolMemSlots | ProtocolStatus |", new: "ProtocolXenMMAP | ProtocolMemSlots | ProtocolStatus |",
	},
	{
		rule: 25, what: "RING_RESET is offered to QEMU's network device",
		file: "vhost/features.go", test: "TestNetworkOffersWhatQEMUKeeps",
		old: "virtio.FeatureNotification | virtio.FeatureRingReset", new: "virtio.FeatureNotification",
	},
	{
		rule: 27, what: "GET_QUEUE_NUM counts the rings of a network device",
		file: "vhost/device.go", test: "TestQueueNumCountsPairsForNetwork",
		old: "return uint64(s.Queues / 2)", new: "return uint64(s.Queues)",
	},
	{
		rule: 33, what: "a ring begins anew when its memory is mapped anew",
		file: "vhost/state.go", test: "TestTableIsReplacedUnderRunningRings",
		old: "if v != nil && r.phase != ringRunning {", new: "if v != nil && (r.phase != ringRunning || old != nil && &old.Ring.Desc[0] != &v.Ring.Desc[0]) {",
	},
	{
		rule: 35, what: "a region that is there already is refused",
		file: "vhost/swap.go", test: "TestRegionAddedTwiceIsThereOnce",
		old: "case len(fresh) == 0:\n\t\treturn nil, nil", new: "case len(fresh) == 0:\n\t\treturn nil, fmt.Errorf(\"it overlaps\")",
	},
	{
		rule: 38, what: "REM_MEM_REG with a file is refused",
		file: "vhost/request.go", test: "TestRemovalWithAFileSucceeds",
		old: `{"REM_MEM_REG", regionSize, 0, 1, acked}`, new: `{"REM_MEM_REG", regionSize, 0, 0, acked}`,
	},
	{
		rule: 45, what: "a region that passes 2^64 is cut short",
		file: "vhost/memory.go", test: "TestRangeBeyondTheAddressSpaceIsRefused",
		old: "{Addr: r.UVA, Size: r.Size,", new: "{Addr: r.UVA, Size: min(r.Size, -uint64(r.UVA)),",
	},
	{
		rule: 46, what: "a fault in shared memory ends no connection",
		file: "vhost/job.go", test: "TestTruncatedFileCostsItsConnection",
		old: "\towner.Fail(f)\n", new: "\t_ = owner\n",
	},
	{
		rule: 49, what: "SET_VRING_ENABLE is refused before SET_FEATURES",
		file: "vhost/ring.go", test: "TestEnableBeforeFeaturesIsRemembered",
		old: "if n > 1 {", new: "if n > 1 || !s.Features().Has(virtio.FeatureProtocol) {",
	},
	{
		rule: 50, what: "a ring that is not set up cannot be enabled while others run",
		file: "vhost/ring.go", test: "TestEnableOfARingThatIsNeverConfiguredStartsNothing",
		old: "if n > 1 {", new: "if n > 1 || s.running() && r.size == 0 {",
	},
	{
		rule: 51, what: "a ring that does not exist is taken for ring 0",
		file: "vhost/ring.go", test: "TestIndexBeyondTheRingsIsRefused",
		old: `return nil, fmt.Errorf("ring %d of a device with %d", i, len(s.rings))`, new: "return s.rings[0], nil",
	},
	{
		rule: 56, what: "a ring begins anew when its log flag changes",
		file: "vhost/ring.go", test: "TestLogFlagOfARunningRingMovesNoIndex",
		old: "r.addr, r.located = a, true", new: "if r.phase == ringRunning && a.Flags != r.addr.Flags {\n\t\tr.phase = ringWaiting\n\t}\n\tr.addr, r.located = a, true",
	},
	{
		rule: 57, what: "a ring that starts waits for its first kick",
		file: "vhost/job.go", test: "TestRingIsLookedAtWhenItStarts",
		old: "if q.Begin(r) != virtio.Open {", new: "if j.w.kick >= 0 && j.w.kicks.Load() == 0 || q.Begin(r) != virtio.Open {",
	},
	{
		rule: 59, what: "without a kick file nobody looks at the ring",
		file: "vhost/state.go", test: "TestRingWithoutKickFileIsPolled",
		old: "job.SetKick(fd, fd < 0)", new: "job.SetKick(fd, false)",
	},
	{
		rule: 60, what: "a second SET_VRING_KICK enables the ring",
		file: "vhost/ring.go", test: "TestKickFileLeavesEnableAlone",
		old: "err = s.rekick(r, fd)\n", new: "r.enabled = true\n\t\terr = errors.Join(s.rekick(r, fd), s.apply())\n",
	},
	{
		rule: 62, what: "completions before SET_VRING_CALL are never told",
		file: "vhost/doorbell.go", test: "TestCompletionsBeforeTheCallFileAreSignalledWithIt",
		old: "if d.fd >= 0 {\n\t\t_ = unix.Close", new: "if d.fd < 0 {\n\t\td.pending.Store(false)\n\t} else {\n\t\t_ = unix.Close",
	},
	{
		rule: 70, what: "GET_VRING_BASE answers the used index",
		file: "virtio/queue.go", test: "TestBaseIsTheNextAvailableIndex",
		old: "Position(q.shown.Load() >> 16)", new: "Position(q.shown.Load() & 0xffff)",
	},
	{
		rule: 72, what: "GET_VRING_BASE stops the whole device",
		file: "vhost/ring.go", test: "TestStoppingOneRingLeavesTheOthersRunning",
		old: "if err := s.stop(r); err != nil {", new: "all := []*vring{r}\n\tif r.queue.Err() == nil && r.missing == nil {\n\t\tall = s.rings\n\t}\n\tif err := s.stop(all...); err != nil {",
	},
	{
		rule: 76, what: "a ring goes on with the used index it had",
		file: "virtio/queue.go", test: "TestUsedIndexIsReadWhenTheRingStarts",
		old: "q.used, q.published, q.called = used, used, used\n",
		new: "if q.cur == nil || p == 0 || used == uint16(p) {\n\t\tq.used = used\n\t}\n\tq.published, q.called = q.used, q.used\n",
	},
	{
		rule: 77, what: "SET_STATUS 0 forgets where rings are",
		file: "vhost/features.go", test: "TestStatusZeroBeforeTheStopLosesNoBase",
		old: "s.status = uint8(u)\n", new: "s.status = uint8(u)\n\tfor _, r := range s.rings {\n\t\tif u == 0 && r.phase == ringRunning {\n\t\t\tr.phase = ringWaiting\n\t\t}\n\t}\n",
	},
	{
		rule: 86, what: "SET_LOG_BASE is answered only when asked to",
		file: "vhost/log.go", test: "TestLogBaseIsAlwaysAnswered",
		old: "return U64(0), s.retire(gone)", new: "return nil, s.retire(gone)",
	},
	{
		rule: 88, what: "only the first buffer of a chain is marked in the log",
		file: "virtio/dirty.go", test: "TestEveryPageWrittenIsMarked",
		old: "left > 0 && k < int(b.Elem[i].Segs); k++", new: "left > 0 && k <= b.Readable(i) && k < int(b.Elem[i].Segs); k++",
	},
	{
		rule: 89, what: "the used ring is marked where it lies, not at its log address",
		file: "vhost/state.go", test: "TestUsedRingIsMarkedAtItsLogAddress",
		old: "v.UsedLog = memtable.GPA(r.addr.Log)", new: "va, _, _ := s.memory.byUVA.Span(r.addr.Used, 1)\n\t\tgpa, _, _ := s.memory.byGPA.Reverse(va)\n\t\tv.UsedLog = memtable.GPA(gpa)",
	},
	{
		rule: 100, what: "SET_INFLIGHT_FD changes the record under a ring that runs",
		file: "vhost/inflight.go", test: "TestSetInflightFDComesBeforeRings",
		old: "case s.running():\n", new: "case s.running() && s.inflight == nil:\n",
	},
	{
		rule: 102, what: "what was in flight is done again in the order of the descriptors",
		file: "virtio/resume.go", test: "TestRecoveryGoesByTheRecord",
		old: "cmp.Compare(a.counter, b.counter)", new: "cmp.Compare(a.head, b.head)",
	},
	{
		rule: 106, what: "a migration cannot write read-only config",
		file: "vhost/config.go", test: "TestReadOnlyConfigIsWrittenByMigrationOnly",
		old: "if err != nil && c.Flags != ConfigLive {", new: "if err != nil {",
	},
	{
		rule: 108, what: "rings wait for DRIVER_OK",
		file: "vhost/state.go", test: "TestRingsRunWithoutDriverOK",
		old: "case !r.started():\n", new: "case !r.started() || s.status != 0 && s.status&4 == 0:\n",
	},
	{
		rule: 109, what: "RESET_DEVICE forgets the call files",
		file: "vhost/ring.go", test: "TestResetDeviceKeepsWhatIsTheConnections",
		old: "r.forget()\n", new: "r.forget()\n\t\t_ = r.call.Set(-1)\n",
	},
	{
		rule: 110, what: "the session waits for the channel's answer",
		file: "vhost/config.go", test: "TestMainSocketIsServedWhileTheChannelWaits",
		old: "if !s.suspended() {\n\t\ts.tellConfig()", new: "if !s.suspended() {\n\t\t_, _ = s.channel.tell(true)",
	},
	{
		rule: 112, what: "IOTLB_MSG ends the connection",
		file: "vhost/dispatch.go", test: "TestTranslationMessagesAreRefusedByANumber",
		old: "IOTLBMsg:         {refusal: U64(1)},", new: "IOTLBMsg: {},",
	},
	{
		rule: 117, what: "an indirect table of 24 bytes is followed",
		file: "virtio/walk.go", test: "TestBadChainCostsItselfAndBadHeadItsRing",
		old: "if d.len%16 != 0 || n == 0 ||", new: "if n == 0 ||",
	},
	{
		rule: 119, what: "a head is read again when it is given back",
		file: "virtio/put.go", test: "TestChainIsWhatItWasWhenItWasTaken",
		old: "e.Head, e.Wrote)\n", new: "q.ring.head(q.next-q.taken+uint16(i)), e.Wrote)\n",
	},
}
