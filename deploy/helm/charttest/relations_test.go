package charttest

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
)

// selects reports whether labels have all that a selector wants.
func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// Every Service, budget and policy means at least one thing that is there, and
// every Secret and ConfigMap that a pod mounts is made here or named by the
// values.
func TestReferencesHold(t *testing.T) {
	t.Parallel()
	given := map[string]bool{"keys": true, "database": true, "nats": true, "layers": true}
	each(t, func(t *testing.T, objects []object) {
		there := map[string]bool{}
		var pods []object
		for _, o := range objects {
			there[o.kind+" "+o.name] = true
			if o.pod != nil {
				pods = append(pods, o)
			}
		}
		chosen := func(selector map[string]string) (n int) {
			for _, p := range pods {
				if selects(selector, p.podLabels) {
					n++
				}
			}
			return n
		}
		for _, o := range objects {
			switch v := o.value.(type) {
			case *corev1.Service:
				if chosen(v.Spec.Selector) == 0 {
					t.Errorf("Service %s selects nothing", o.name)
				}
				for _, p := range v.Spec.Ports {
					if !hasPort(pods, v.Spec.Selector, p.TargetPort.StrVal) {
						t.Errorf("Service %s: no container has the port %s", o.name, p.TargetPort.StrVal)
					}
				}
			case *policyv1.PodDisruptionBudget:
				if chosen(v.Spec.Selector.MatchLabels) != 1 {
					t.Errorf("PodDisruptionBudget %s selects %d workloads, want 1", o.name, chosen(v.Spec.Selector.MatchLabels))
				}
			case *networkingv1.NetworkPolicy:
				if chosen(v.Spec.PodSelector.MatchLabels) != 1 {
					t.Errorf("NetworkPolicy %s selects %d workloads, want 1", o.name, chosen(v.Spec.PodSelector.MatchLabels))
				}
			case *appsv1.Deployment:
				if !selects(v.Spec.Selector.MatchLabels, o.podLabels) || chosen(v.Spec.Selector.MatchLabels) != 1 {
					t.Errorf("Deployment %s does not select just its own pods", o.name)
				}
			case *appsv1.StatefulSet:
				if !selects(v.Spec.Selector.MatchLabels, o.podLabels) || chosen(v.Spec.Selector.MatchLabels) != 1 {
					t.Errorf("StatefulSet %s does not select just its own pods", o.name)
				}
			}
		}
		for _, p := range pods {
			for _, v := range p.pod.Volumes {
				if v.Secret != nil && !there["Secret "+v.Secret.SecretName] && !given[v.Secret.SecretName] {
					t.Errorf("%s %s mounts the Secret %s, which nobody makes", p.kind, p.name, v.Secret.SecretName)
				}
				if v.ConfigMap != nil && !there["ConfigMap "+v.ConfigMap.Name] {
					t.Errorf("%s %s mounts the ConfigMap %s, which nobody makes", p.kind, p.name, v.ConfigMap.Name)
				}
			}
			if a := p.pod.ServiceAccountName; a != "" && a != "default" && !there["ServiceAccount "+a] {
				t.Errorf("%s %s has the ServiceAccount %s, which nobody makes", p.kind, p.name, a)
			}
		}
	})
}

func hasPort(pods []object, selector map[string]string, name string) bool {
	for _, p := range pods {
		if !selects(selector, p.podLabels) {
			continue
		}
		for _, c := range p.pod.Containers {
			for _, port := range c.Ports {
				if port.Name == name {
					return true
				}
			}
		}
	}
	return false
}

// Where policies are on, every pod that lasts has one.
func TestEveryPodHasAPolicy(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, objects []object) {
		var policies []*networkingv1.NetworkPolicy
		for _, o := range objects {
			if v, ok := o.value.(*networkingv1.NetworkPolicy); ok {
				policies = append(policies, v)
			}
		}
		if len(policies) == 0 {
			return
		}
		for _, o := range objects {
			if o.pod == nil || o.kind == "Pod" {
				continue
			}
			n := 0
			for _, p := range policies {
				if selects(p.Spec.PodSelector.MatchLabels, o.podLabels) {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%s %s is under %d policies, want 1", o.kind, o.name, n)
			}
		}
	})
}

func TestWrongValuesAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		values map[string]any
		says   string
	}{
		"a typo":                     {map[string]any{"replica": 2}, "replica"},
		"a typo further in":          {map[string]any{"nats": map[string]any{"storge": "1Gi"}}, "storge"},
		"an unknown mode":            {map[string]any{"mode": "cluster"}, "mode"},
		"a key that is no key":       {map[string]any{"secretKeys": map[string]any{"value": "secret"}}, "value"},
		"a size without unit":        {map[string]any{"nats": map[string]any{"storage": "8"}}, "storage"},
		"an address that is ours":    {map[string]any{"config": map[string]any{"listen": ":80"}}, "config"},
		"no database":                {map[string]any{"postgresql": map[string]any{"enabled": false}}, "postgresql.existingSecret"},
		"no NATS":                    {map[string]any{"nats": map[string]any{"enabled": false}}, "nats.existingSecret"},
		"an ingress without hosts":   {map[string]any{"ingress": map[string]any{"enabled": true}}, "ingress.hosts"},
		"a route without a gateway":  {map[string]any{"gateway": map[string]any{"enabled": true}}, "gateway.parentRefs"},
		"autoscaling of one process": {map[string]any{"autoscaling": map[string]any{"enabled": true}}, "mode: split"},
		"no time to drain":           {map[string]any{"terminationGracePeriodSeconds": 5}, "terminationGracePeriodSeconds"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := render(t, c.values)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error about %s", err, c.says)
			}
		})
	}
}
