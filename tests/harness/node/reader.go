// A container's only program. Without arguments it waits to be ended, as the sandbox of a Pod has to; with `show DIRECTORY...`
// it prints the environment and the files that the Pod was given, quoted so that every byte can be seen. With `watch
// DIRECTORY...` it does not end, and prints a file again whenever its contents have changed.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// What was printed of each file.
var printed = map[string]string{}

func main() {
	if len(os.Args) < 2 {
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
		<-ended
		return
	}
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		fmt.Printf("variable %s %q\n", name, value)
	}
	show(os.Args[2:])
	for os.Args[1] == "watch" {
		time.Sleep(20 * time.Millisecond)
		show(os.Args[2:])
	}
}

func show(directories []string) {
	for _, directory := range directories {
		entries, err := os.ReadDir(directory)
		if err != nil {
			fmt.Println("error", err)
		}
		for _, entry := range entries {
			path := filepath.Join(directory, entry.Name())
			// The kubelet's own: the folder of this moment's contents, which the names beside it link to.
			if strings.HasPrefix(entry.Name(), "..") {
				continue
			}
			if status, err := os.Stat(path); err == nil && status.IsDir() {
				show([]string{path})
				continue
			}
			contents, err := os.ReadFile(path)
			if err != nil {
				fmt.Println("error", err)
				continue
			}
			line := fmt.Sprintf("file %s %q", path, contents)
			if printed[path] != line {
				fmt.Println(line)
			}
			printed[path] = line
		}
	}
}
