package charttest

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// An object is one rendered document, decoded strictly into Kubernetes' own
// type, so that a misspelled field is an error.
type object struct {
	kind, name string
	labels     map[string]string
	value      any
	pod        *corev1.PodSpec // of what runs pods
	podLabels  map[string]string
	hook       bool
}

func decode(t *testing.T, stream string) []object {
	t.Helper()
	var out []object
	for doc := range strings.SplitSeq(stream, "---\n") {
		if !hasContent(doc) {
			continue
		}
		var meta struct {
			metav1.TypeMeta   `json:",inline"`
			metav1.ObjectMeta `json:"metadata"`
		}
		if err := yaml.Unmarshal([]byte(doc), &meta); err != nil {
			t.Fatalf("%v in:\n%s", err, doc)
		}
		o := object{kind: meta.Kind, name: meta.Name, labels: meta.Labels, hook: meta.Annotations["helm.sh/hook"] != ""}
		switch meta.APIVersion + " " + meta.Kind {
		case "apps/v1 Deployment":
			v := new(appsv1.Deployment)
			o.value, o.pod, o.podLabels = v, &v.Spec.Template.Spec, nil
			strict(t, doc, v)
			o.podLabels = v.Spec.Template.Labels
		case "apps/v1 StatefulSet":
			v := new(appsv1.StatefulSet)
			o.value, o.pod = v, &v.Spec.Template.Spec
			strict(t, doc, v)
			o.podLabels = v.Spec.Template.Labels
		case "batch/v1 Job":
			v := new(batchv1.Job)
			o.value, o.pod = v, &v.Spec.Template.Spec
			strict(t, doc, v)
			o.podLabels = v.Spec.Template.Labels
		case "v1 Pod":
			v := new(corev1.Pod)
			o.value, o.pod, o.podLabels = v, &v.Spec, meta.Labels
			strict(t, doc, v)
		case "v1 Service":
			o.value = strict(t, doc, new(corev1.Service))
		case "v1 ConfigMap":
			o.value = strict(t, doc, new(corev1.ConfigMap))
		case "v1 Secret":
			o.value = strict(t, doc, new(corev1.Secret))
		case "v1 ServiceAccount":
			o.value = strict(t, doc, new(corev1.ServiceAccount))
		case "policy/v1 PodDisruptionBudget":
			o.value = strict(t, doc, new(policyv1.PodDisruptionBudget))
		case "autoscaling/v2 HorizontalPodAutoscaler":
			o.value = strict(t, doc, new(autoscalingv2.HorizontalPodAutoscaler))
		case "networking.k8s.io/v1 NetworkPolicy":
			o.value = strict(t, doc, new(networkingv1.NetworkPolicy))
		case "networking.k8s.io/v1 Ingress":
			o.value = strict(t, doc, new(networkingv1.Ingress))
		case "gateway.networking.k8s.io/v1 HTTPRoute", "cert-manager.io/v1 Certificate", "monitoring.coreos.com/v1 ServiceMonitor":
			// Custom resources, whose Go types are not at hand.
		default:
			t.Errorf("unexpected %s %s", meta.APIVersion, meta.Kind)
		}
		out = append(out, o)
	}
	return out
}

func strict[T any](t *testing.T, doc string, v *T) *T {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(doc), v); err != nil {
		t.Errorf("%v in:\n%s", err, doc)
	}
	return v
}

func TestPodsAreRestricted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, objects []object) {
		pods := 0
		for _, o := range objects {
			if o.pod == nil {
				continue
			}
			pods++
			for _, problem := range unsafe(o) {
				t.Errorf("%s %s: %s", o.kind, o.name, problem)
			}
		}
		if pods == 0 {
			t.Error("nothing runs")
		}
	})
}

// unsafe lists what is wrong with a pod by Kubernetes' restricted standard and
// by what the chart promises beyond it.
func unsafe(o object) []string {
	var out []string
	bad := func(is bool, format string, args ...any) {
		if is {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	p, s := o.pod, o.pod.SecurityContext
	bad(p.HostNetwork || p.HostPID || p.HostIPC, "shares a namespace of the host")
	bad(p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken, "has a token of the cluster")
	bad(p.EnableServiceLinks == nil || *p.EnableServiceLinks, "has environment variables of services, such as TOCSIN_PORT")
	bad(s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0, "may run as root")
	bad(s == nil || s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault, "has no seccomp profile")
	for _, v := range p.Volumes {
		bad(v.HostPath != nil, "mounts a directory of the host")
	}
	for _, c := range append(p.InitContainers, p.Containers...) {
		x := c.SecurityContext
		bad(x == nil || x.ReadOnlyRootFilesystem == nil || !*x.ReadOnlyRootFilesystem, "%s can write to its root", c.Name)
		bad(x == nil || x.AllowPrivilegeEscalation == nil || *x.AllowPrivilegeEscalation, "%s may gain privileges", c.Name)
		bad(x == nil || x.Capabilities == nil || len(x.Capabilities.Drop) != 1 || x.Capabilities.Drop[0] != "ALL" || len(x.Capabilities.Add) > 0, "%s has capabilities", c.Name)
		bad(c.Resources.Limits.Memory().IsZero(), "%s has no memory limit", c.Name)
		bad(c.Resources.Requests.Cpu().IsZero(), "%s requests no CPU", c.Name)
		lasting := o.kind == "Deployment" || o.kind == "StatefulSet"
		bad(lasting && (c.LivenessProbe == nil || c.ReadinessProbe == nil || c.StartupProbe == nil), "%s lacks a probe", c.Name)
	}
	return out
}

// The check can fail.
func TestUnsafeSeesWhatIsUnsafe(t *testing.T) {
	t.Parallel()
	bare := object{kind: "Deployment", pod: &corev1.PodSpec{Containers: []corev1.Container{{Name: "x"}}}}
	if got := unsafe(bare); len(got) != 10 {
		t.Errorf("%d problems, want 10: %q", len(got), got)
	}
}

// each runs a check on the objects of every set of values.
func each(t *testing.T, check func(*testing.T, []object)) {
	t.Helper()
	for _, set := range valueSets(t) {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			stream, err := render(t, values(t, set))
			if err != nil {
				t.Fatal(err)
			}
			check(t, decode(t, stream))
		})
	}
}
