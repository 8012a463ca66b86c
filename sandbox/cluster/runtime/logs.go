package runtime

import (
	"bufio"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxLogLine is where longer lines are cut into parts, as container runtimes do.
const maxLogLine = 16 * 1024

// containerLog is a log file in the format of the CRI: time, stream, F for a full line or P for a part, text.
type containerLog struct {
	path string

	mutex sync.Mutex
	file  *os.File
}

func openLog(path string) (*containerLog, error) {
	log := &containerLog{path: path}
	return log, log.reopen()
}

// reopen is called after the kubelet has moved the file away.
func (l *containerLog) reopen() error {
	file, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			return err
		}
	}
	l.file = file
	return nil
}

func (l *containerLog) close() error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.file.Close()
}

func (l *containerLog) write(stream string, full bool, text []byte) error {
	tag := "P"
	if full {
		tag = "F"
	}
	line := make([]byte, 0, len(text)+64)
	line = time.Now().AppendFormat(line, time.RFC3339Nano)
	line = append(line, ' ')
	line = append(line, stream...)
	line = append(line, ' ')
	line = append(line, tag...)
	line = append(line, ' ')
	line = append(line, text...)
	line = append(line, '\n')
	l.mutex.Lock()
	defer l.mutex.Unlock()
	_, err := l.file.Write(line)
	return err
}

// copy writes what a stream of the container says, line by line, until its end.
func (l *containerLog) copy(stream string, from io.Reader) error {
	reader := bufio.NewReaderSize(from, maxLogLine)
	for {
		text, err := reader.ReadSlice('\n')
		full := err == nil
		if full {
			text = text[:len(text)-1]
		}
		ended := err != nil && !errors.Is(err, bufio.ErrBufferFull)
		if full || len(text) > 0 {
			// The last words of a program that ends without a new line are a full line too.
			if err := l.write(stream, full || ended, text); err != nil {
				return err
			}
		}
		// A terminal that is closed gives EIO.
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO) {
			return nil
		}
		if ended {
			return err
		}
	}
}
