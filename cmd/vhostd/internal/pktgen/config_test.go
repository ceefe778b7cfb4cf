package pktgen

import (
	"strings"
	"testing"
)

func TestWhatCannotBeIsRefusedWithAdvice(t *testing.T) {
	good := Config{Mode: Tx, Sizes: Sizes{60}, Flows: 1, Burst: 32, Pairs: 1, Ring: 256}
	if err := good.check(); err != nil || good.Buffer != 2048 {
		t.Fatalf("%v, buffers of %d", err, good.Buffer)
	}
	for name, change := range map[string]func(*Config){
		"no mode is named": func(c *Config) { c.Mode = "jump" },
		"queue pairs":      func(c *Config) { c.Pairs = 129 },
		"flows":            func(c *Config) { c.Pairs, c.Flows = 2, 32769 },
		"bursts":           func(c *Config) { c.Burst = 65 },
		"rings":            func(c *Config) { c.Ring = 100 },
		"a rate":           func(c *Config) { c.Rate = -1 },
		"an MTU":           func(c *Config) { c.MTU = 67 },
		"buffers":          func(c *Config) { c.Sizes, c.Buffer = Sizes{3000}, 2048 },
	} {
		c := good
		c.Buffer = 0
		change(&c)
		if err := c.check(); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "use ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	jumbo := Config{Mode: Tx, Sizes: Sizes{60, 9014}, Flows: 1, Burst: 1, Pairs: 1, Ring: 256}
	if err := jumbo.check(); err != nil || jumbo.MTU != 9000 || jumbo.Buffer < 9026 {
		t.Errorf("%v, MTU %d, buffers of %d", err, jumbo.MTU, jumbo.Buffer)
	}
	c := Config{Without: []string{"in_order", "speed_of_light"}}
	if _, err := c.features(); err == nil {
		t.Error("a feature that there is not can be done without")
	}
}
