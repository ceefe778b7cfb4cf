#include "textflag.h"

// func loadEvent(p *uint16) uint16
TEXT ·loadEvent(SB), NOSPLIT, $0-10
	MOVD	p+0(FP), R0
	LDARH	(R0), R1
	MOVH	R1, ret+8(FP)
	RET

// func storeEvent(p *uint16, v uint16)
// The DMB orders the store before later loads, plain ones included.
TEXT ·storeEvent(SB), NOSPLIT, $0-10
	MOVD	p+0(FP), R0
	MOVHU	v+8(FP), R1
	STLRH	R1, (R0)
	DMB	$0xb
	RET
