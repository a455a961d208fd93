package targettest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"tocsin.dev/tocsin/delivery/targettest/node"
)

// ActiveMQ is a real ActiveMQ broker of its own with a STOMP connector and one
// user.
type ActiveMQ struct {
	STOMP          int
	User, Password string

	t    testing.TB
	dir  string
	proc *node.Process
}

const activeMQConfig = `<beans xmlns="http://www.springframework.org/schema/beans" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
  http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" useJmx="false" brokerName="targettest" dataDirectory="%[1]s">
    <persistenceAdapter><kahaDB directory="%[1]s/kahadb"/></persistenceAdapter>
    <plugins>
      <simpleAuthenticationPlugin anonymousAccessAllowed="false">
        <users><authenticationUser username="%[2]s" password="%[3]s" groups="users,admins"/></users>
      </simpleAuthenticationPlugin>
    </plugins>
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp://127.0.0.1:%[4]d"/>
    </transportConnectors>
  </broker>
</beans>
`

const activeMQHome = "/usr/share/activemq"

// StartActiveMQ starts a broker and stops it when the test ends. The test
// fails with a hint where ActiveMQ is not installed.
func StartActiveMQ(t testing.TB) *ActiveMQ {
	t.Helper()
	if _, err := os.Stat(filepath.Join(activeMQHome, "bin", "activemq.jar")); err != nil {
		t.Fatal("no ActiveMQ on this machine: install the Debian package activemq")
	}
	if _, err := exec.LookPath("java"); err != nil {
		t.Fatal("ActiveMQ needs java: install the Debian package default-jre-headless")
	}
	a := &ActiveMQ{STOMP: freePorts(t, 1)[0], User: "tocsin", Password: "right", t: t, dir: tempDir(t)}
	write(t, a.dir, "activemq.xml", fmt.Appendf(nil, activeMQConfig, filepath.Join(a.dir, "data"), a.User, a.Password, a.STOMP))
	t.Cleanup(a.Stop)
	a.Start()
	return a
}

// Start runs the broker on its data and waits until it accepts connections.
func (a *ActiveMQ) Start() {
	a.t.Helper()
	if a.proc != nil {
		return
	}
	proc, err := node.StartProcess(a.dir, nil, "java", "-Xmx256m",
		"-Dactivemq.home="+activeMQHome, "-Dactivemq.base="+a.dir, "-Dactivemq.conf="+a.dir, "-Dactivemq.data="+filepath.Join(a.dir, "data"),
		"-Djava.io.tmpdir="+a.dir, "-jar", filepath.Join(activeMQHome, "bin", "activemq.jar"),
		"start", "xbean:file:"+filepath.Join(a.dir, "activemq.xml"))
	if err != nil {
		a.t.Fatal(err)
	}
	a.proc = proc
	if err := a.proc.WaitTCP(a.t.Context(), a.STOMP); err != nil {
		a.t.Fatal(err)
	}
}

// Stop ends the broker; its data stay for the next Start.
func (a *ActiveMQ) Stop() {
	if a.proc == nil {
		return
	}
	a.proc.End()
	a.proc = nil
}

// Restart stops and starts the broker.
func (a *ActiveMQ) Restart() { a.t.Helper(); a.Stop(); a.Start() }
