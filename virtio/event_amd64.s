#include "textflag.h"

// func loadEvent(p *uint16) uint16
// A load is an acquire on amd64.
TEXT ·loadEvent(SB), NOSPLIT, $0-10
	MOVQ	p+0(FP), AX
	MOVWLZX	(AX), AX
	MOVW	AX, ret+8(FP)
	RET

// func storeEvent(p *uint16, v uint16)
// XCHG with memory is locked: a full barrier.
TEXT ·storeEvent(SB), NOSPLIT, $0-10
	MOVQ	p+0(FP), AX
	MOVW	v+8(FP), BX
	XCHGW	BX, (AX)
	RET
