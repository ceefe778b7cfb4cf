module github.com/vhostd/vhostd

go 1.26
