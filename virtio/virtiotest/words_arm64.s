#include "textflag.h"

// func loadShort(p *uint16) uint16
TEXT ·loadShort(SB), NOSPLIT, $0-10
	MOVD	p+0(FP), R3
	LDARH	(R3), R4
	MOVH	R4, ret+8(FP)
	RET

// func storeShort(p *uint16, v uint16)
// The DMB (inner shareable, all accesses) keeps later loads behind the store.
TEXT ·storeShort(SB), NOSPLIT, $0-10
	MOVD	p+0(FP), R3
	MOVHU	v+8(FP), R4
	STLRH	R4, (R3)
	DMB	$0xb
	RET
