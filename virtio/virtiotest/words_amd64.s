#include "textflag.h"

// func loadShort(p *uint16) uint16
// Loads are acquires on amd64.
TEXT ·loadShort(SB), NOSPLIT, $0-10
	MOVQ	p+0(FP), SI
	MOVWLZX	(SI), CX
	MOVW	CX, ret+8(FP)
	RET

// func storeShort(p *uint16, v uint16)
// The MFENCE keeps later loads behind the store.
TEXT ·storeShort(SB), NOSPLIT, $0-10
	MOVQ	p+0(FP), DI
	MOVWLZX	v+8(FP), CX
	MOVW	CX, (DI)
	MFENCE
	RET
