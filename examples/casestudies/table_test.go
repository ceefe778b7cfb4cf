package main

import "testing"

func TestOurTableIsRightAndSharesTheLeastWhereverPagesAreTakenFrom(t *testing.T) {
	all, err := tables()
	if err != nil {
		t.Fatal(err)
	}
	const whole, span, ours = 0, 1, 2
	for from := 0; from < len(all); from += 3 {
		three := all[from:][:3]
		if n := three[ours]; n.Found != n.Pages || n.Shared > three[span].Shared || n.Shared > three[whole].Shared {
			t.Errorf("of %s: %+v", n.From, three)
		}
	}
	if top := all[whole]; top.Found != 0 || top.Shared != file {
		t.Errorf("the table of the size of the file, from its top: %+v", top)
	}
	if zero := all[3+whole]; zero.Found != zero.Pages {
		t.Errorf("the table of the size of the file, from offset 0: %+v", zero)
	}
}
