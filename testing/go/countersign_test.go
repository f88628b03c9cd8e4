package countersigntest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Set in a process that these tests start, to tell it what to do.
const role = "TESTING_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(role) == "holder" {
		hold()
	}
	os.Exit(Main(m))
}

// hold starts a server, prints its address, and waits to be killed.
func hold() {
	server, err := NewServer()
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString(server.URL + "\n")
	time.Sleep(time.Minute)
}

// isUp reports whether the server still listens. While it stops, it answers every request with 503.
func isUp(address string) bool {
	connection, err := net.DialTimeout("tcp", strings.TrimPrefix(address, "http://"), stopTimeout)
	if err != nil {
		return false
	}
	connection.Close()
	return true
}

// child returns a command that runs this test program in a role.
func child(name string, arguments ...string) *exec.Cmd {
	command := exec.Command(os.Args[0], arguments...)
	command.Env = append(os.Environ(), role+"="+name)
	return command
}

func TestStartTakesLessThanASecond(t *testing.T) {
	fastest := time.Hour
	// Again if it is slow, because other tests may load the machine.
	for round := 0; round < 10 && fastest > time.Second; round++ {
		server, err := NewServer()
		check(t, err)
		fastest = min(fastest, server.StartTime)
		check(t, server.Stop())
		if isUp(server.URL) {
			t.Fatal("a stopped server answers")
		}
	}
	if fastest > time.Second {
		t.Fatalf("the start took %s", fastest)
	}
}

func TestKilledTestProcessLeavesNoServer(t *testing.T) {
	holder := child("holder")
	output, err := holder.StdoutPipe()
	check(t, err)
	check(t, holder.Start())
	address, err := bufio.NewReader(output).ReadString('\n')
	check(t, err)
	address = strings.TrimSpace(address)
	if !isUp(address) {
		t.Fatal("the server does not answer")
	}
	check(t, holder.Process.Kill())
	// It was killed, so there is an error.
	_ = holder.Wait()
	for end := time.Now().Add(stopTimeout); isUp(address); time.Sleep(pollInterval) {
		if time.Now().After(end) {
			t.Fatal("the server outlives the process that started it")
		}
	}
}

func TestSettingsOfProductionInTheEnvironmentAreNotUsed(t *testing.T) {
	t.Setenv("COUNTERSIGN_DATABASE_URL", "postgres://production/countersign")
	StartServer(t)
}

func TestMissingBinaryIsNamed(t *testing.T) {
	t.Setenv("COUNTERSIGN_BINARY", "/nowhere/countersign")
	_, err := NewServer()
	if err == nil || !strings.Contains(err.Error(), "COUNTERSIGN_BINARY is not a program: /nowhere/countersign") {
		t.Fatal(err)
	}
}

func TestServerThatEndsAtOnceShowsItsLog(t *testing.T) {
	program := filepath.Join(t.TempDir(), "countersign")
	check(t, os.WriteFile(program, []byte("#!/bin/sh\necho out of order >&2\nexit 1\n"), 0o755))
	t.Setenv("COUNTERSIGN_BINARY", program)
	_, err := NewServer()
	if err == nil || !strings.Contains(err.Error(), "ended before it was ready:\nout of order") {
		t.Fatal(err)
	}
}

func TestEachTestHasAnAccountOfItsOwn(t *testing.T) {
	first, second := Start(t), Start(t)
	if first.URL != second.URL || first.AccountSid == second.AccountSid || first.ServiceSid == second.ServiceSid {
		t.Fatalf("%s and %s", first.AccountSid, second.AccountSid)
	}
}

func TestParallelSubtestsShareAnAccount(t *testing.T) {
	const phones = 8
	cs := Start(t)
	t.Run("group", func(t *testing.T) {
		for number := range phones {
			t.Run(fmt.Sprint(number), func(t *testing.T) {
				t.Parallel()
				cs.Device(t, fmt.Sprintf("user-%04d", number), Ignore)
				_ = cs.Report()
			})
		}
	})
	if found := strings.Count(cs.Report(), "log of the phone of "); found != phones {
		t.Fatalf("the report has %d of %d phones", found, phones)
	}
}

func TestNameOfATestCanHaveAnyCharacters(t *testing.T) {
	for _, name := range []string{"tab\t, line\r\n, \x00\x1f\x7f\u0085\u009f", strings.Repeat("👋", 65)} {
		t.Run(name, func(t *testing.T) { Start(t) })
	}
}

func TestClockTravelsToAnInstantWithinTheSecond(t *testing.T) {
	cs := StartServer(t)
	now := cs.Clock.Freeze(t)
	for _, instant := range []time.Time{now, now.Add(time.Microsecond)} {
		if reached := cs.Clock.TravelTo(t, instant); !reached.Equal(instant) {
			t.Fatalf("%s is not %s", reached, instant)
		}
	}
}

// The tests below fail on purpose, in a process of their own.

func TestOfSharedClock(t *testing.T) {
	if os.Getenv(role) != "failing" {
		t.Skip("fails on purpose")
	}
	Start(t).Clock.Advance(t, time.Minute)
}

func TestThatFails(t *testing.T) {
	if os.Getenv(role) != "failing" {
		t.Skip("fails on purpose")
	}
	cs := StartServer(t)
	phone := cs.Device(t, "user-0001", Ignore)
	parameters := map[string][]string{"FactorSid": {phone.FactorSid}, "Details.Message": {"Sign in?"}}
	path := "/v2/Services/" + cs.ServiceSid + "/Entities/user-0001/Challenges"
	check(t, cs.Server.api(cs.AccountSid, cs.AuthToken, path, parameters, nil))
	phone.Deny(t)
	t.Error("the login was refused")
}

func outputOf(t *testing.T, test string) string {
	t.Helper()
	output, err := child("failing", "-test.v", "-test.run", "^"+test+"$").CombinedOutput()
	if err == nil {
		t.Fatalf("it passed: %s", output)
	}
	return string(output)
}

func TestClockOfASharedServerCannotBeMoved(t *testing.T) {
	output := outputOf(t, "TestOfSharedClock")
	if !strings.Contains(output, "give the test a server of its own: StartServer instead of Start") {
		t.Fatal(output)
	}
}

func TestFailureShowsTheLogOfThePhoneAndTheCaptures(t *testing.T) {
	_, report, _ := strings.Cut(outputOf(t, "TestThatFails"), "Countersign: ")
	for _, part := range []string{
		"log of the phone of user-0001, factor YF", " deny 200", "last pushes\n", " fcm YC", "last webhooks\n", "  none\n",
	} {
		if !strings.Contains(report, part) {
			t.Fatalf("%q is missing:\n%s", part, report)
		}
	}
}
