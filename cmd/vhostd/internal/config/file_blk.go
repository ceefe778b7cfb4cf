package config

import "strconv"

// blkTable is one [[blk]]; a nil option was not given.
type blkTable struct {
	Name   string  `toml:"name"`
	Socket string  `toml:"socket"`
	File   *string `toml:"file"`
	RO     *bool   `toml:"ro"`
	Direct *bool   `toml:"direct"`
	Serial *string `toml:"serial"`
	Queues *int64  `toml:"queues"`
	Mode   *string `toml:"mode"`
	Owner  *string `toml:"owner"`
	Perm   *string `toml:"perm"`
}

// disk makes table i a disk, through the options that --blk has.
func (t *blkTable) disk(i int, at positions) (Blk, error) {
	b := Blk{Name: t.Name, Socket: t.Socket, Origin: at.find("blk", i, "")}
	for _, o := range []struct {
		name  string
		value *string
	}{
		{"file", t.File}, {"ro", word(t.RO)}, {"direct", word(t.Direct)}, {"serial", t.Serial},
		{"queues", decimal(t.Queues)}, {"mode", t.Mode}, {"owner", t.Owner}, {"perm", t.Perm},
	} {
		if o.value == nil {
			continue
		}
		if err := b.set(o.name, *o.value); err != nil {
			return Blk{}, &Error{at.find("blk", i, o.name), b.Name, o.name, err}
		}
	}
	return b, b.finish()
}

func word(v *bool) *string {
	if v == nil {
		return nil
	}
	return new(strconv.FormatBool(*v))
}
