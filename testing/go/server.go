// Package countersigntest starts Countersign in test mode, with phones that tests control.
//
// [Start] gives a test an account of its own, with phones, captured pushes and webhooks. [Main] lets the tests of a
// package share one server. [StartServer] gives a test a server of its own, for the clock and for chaos.
package countersigntest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	ready          = "countersign listening on "
	startTimeout   = 10 * time.Second
	stopTimeout    = 10 * time.Second
	requestTimeout = 30 * time.Second
	shownLogLines  = 40

	// The variable that names a running server.
	urlVariable = "COUNTERSIGN_URL"
)

// Ends the server when its own standard input closes, which also happens when the test process is killed.
const supervisor = `
trap '' INT HUP
exec 3<&0
"$@" </dev/null 3<&- &
exec >&-
cat <&3 >/dev/null
kill $!
wait $!
`

// RequestError is a request that the server refused.
type RequestError struct {
	Method, Path string
	// Status is the HTTP status, Code the error code of the API.
	Status, Code int
	Message      string
}

func (err *RequestError) Error() string {
	return fmt.Sprintf("%s %s: %d, code %d: %s", err.Method, err.Path, err.Status, err.Code, err.Message)
}

// Server is a Countersign server in test mode: a process of this package, or a running container.
type Server struct {
	URL string
	// IsShared says whether other tests use the server too.
	IsShared bool
	// StartTime is the time that the server took to become ready.
	StartTime time.Duration
	command   *exec.Cmd
	input     io.Closer
	folder    string
}

// The server of [Main].
var shared *Server

// Main runs the tests of a package with one server that they share: COUNTERSIGN_URL, else a new process. TestMain
// passes its result to os.Exit.
func Main(m *testing.M) int {
	server, err := sharedServer()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared = server
	code := m.Run()
	shared = nil
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func sharedServer() (*Server, error) {
	if address := os.Getenv(urlVariable); address != "" {
		server := &Server{URL: strings.TrimSuffix(address, "/"), IsShared: true}
		return server, server.Request("GET", "/", nil, nil, 0)
	}
	server, err := NewServer()
	if err == nil {
		server.IsShared = true
	}
	return server, err
}

// NewServer starts a server on a free port of 127.0.0.1 and waits until it is ready. The caller stops it. Tests use
// [StartServer].
func NewServer() (*Server, error) {
	binary, err := findBinary()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "countersign-testing-")
	if err != nil {
		return nil, err
	}
	server := &Server{folder: folder}
	began := time.Now()
	if err := server.start(binary); err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	server.StartTime = time.Since(began)
	return server, nil
}

func findBinary() (string, error) {
	given := os.Getenv("COUNTERSIGN_BINARY")
	name := given
	if name == "" {
		name = "countersign"
	}
	found, err := exec.LookPath(name)
	if err == nil {
		return filepath.Abs(found)
	}
	reason := "no program countersign on the PATH"
	if given != "" {
		reason = "COUNTERSIGN_BINARY is not a program: " + given
	}
	return "", fmt.Errorf("%s; install it, or name its path in COUNTERSIGN_BINARY", reason)
}

func (server *Server) start(binary string) error {
	log, err := os.Create(filepath.Join(server.folder, "server.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	serve := []string{binary, "serve", "--test-mode", "local", "--listen", "127.0.0.1:0"}
	command := exec.Command("sh", append([]string{"-c", supervisor, "countersign"}, serve...)...)
	// A folder without `data`, because the default data folder is relative.
	command.Dir = server.folder
	command.Stderr = log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// The server refuses test mode with settings of production, which a developer's shell may hold.
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "COUNTERSIGN") {
			command.Env = append(command.Env, variable)
		}
	}
	if server.input, err = command.StdinPipe(); err != nil {
		return err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	server.command = command

	address := make(chan string, 1)
	go func() {
		defer close(address)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			if found, is := strings.CutPrefix(lines.Text(), ready); is {
				address <- strings.TrimSpace(found)
				break
			}
		}
		io.Copy(io.Discard, output)
	}()
	select {
	case found, is := <-address:
		if !is {
			return fmt.Errorf("the server ended before it was ready:\n%s", server.Log())
		}
		server.URL = found
		return nil
	case <-time.After(startTimeout):
		return fmt.Errorf("the server was not ready after %s:\n%s", startTimeout, server.Log())
	}
}

// Stop sends SIGTERM and waits for the end of the process. It does nothing for a server that was not started here.
func (server *Server) Stop() error {
	if server.folder == "" {
		return nil
	}
	defer os.RemoveAll(server.folder)
	if server.command == nil {
		return nil
	}
	command := server.command
	server.command = nil
	server.input.Close()
	ended := make(chan struct{})
	go func() {
		// The exit status is that of a process ended by a signal.
		command.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(stopTimeout):
		syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		<-ended
		return fmt.Errorf("the server did not stop within %s:\n%s", stopTimeout, server.Log())
	}
}

// Log returns the end of the server's log, or an empty text if the server is not a process of this package.
func (server *Server) Log() string {
	text, err := os.ReadFile(filepath.Join(server.folder, "server.log"))
	if server.folder == "" || err != nil {
		return ""
	}
	lines := strings.Split(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-shownLogLines):], "\n")
}

// Request sends a request to /_countersign/v1 with a body in JSON, unless body is nil, and reads the response into
// result, unless that is nil. wait is the time that the server may take in addition to the usual timeout.
func (server *Server) Request(method, path string, body, result any, wait time.Duration) error {
	header := http.Header{}
	data := []byte{}
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
	}
	if method != "GET" {
		header.Set("Content-Type", "application/json")
	}
	return server.send(method, "/_countersign/v1"+path, data, header, result, wait)
}

func (server *Server) api(user, password, path string, parameters url.Values, result any) error {
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	request := http.Request{Header: header}
	request.SetBasicAuth(user, password)
	return server.send("POST", path, []byte(parameters.Encode()), header, result, 0)
}

func (server *Server) send(method, path string, data []byte, header http.Header, result any, wait time.Duration) error {
	request, err := http.NewRequest(method, server.URL+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	request.Header = header
	client := http.Client{Transport: direct, Timeout: wait + requestTimeout}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		refused := &RequestError{Method: method, Path: path, Status: response.StatusCode, Message: string(text)}
		// Without JSON, the text is the message.
		_ = json.Unmarshal(text, refused)
		refused.Status = response.StatusCode
		return refused
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(text, result)
}

// No proxy, because the server is on this machine or beside it, and no connections that outlive a server.
var direct = &http.Transport{DisableKeepAlives: true}

// Housekeeping runs one round of housekeeping now, and returns the number of removed objects by kind.
func (server *Server) Housekeeping(t testing.TB) map[string]int {
	t.Helper()
	removed := map[string]int{}
	check(t, server.Request("POST", "/housekeeping", struct{}{}, &removed, 0))
	return removed
}

// Reset removes all devices and captures of all accounts, and sets the clock back to the real time.
func (server *Server) Reset(t testing.TB) {
	t.Helper()
	server.requireOwn(t, "reset")
	check(t, server.Request("POST", "/reset", struct{}{}, nil, 0))
}

func (server *Server) requireOwn(t testing.TB, what string) {
	t.Helper()
	if server.IsShared {
		t.Fatalf("%s affects every test on this server; give the test a server of its own: StartServer instead of Start", what)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
