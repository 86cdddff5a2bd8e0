package edge

import (
	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/edge/rewrite"
)

// showRewrite puts what a route changes on the way into the API's words.
func showRewrite(shown *api.Route, r *config.Route) {
	rule := &r.Rewrite
	if !rule.Path.Empty() || rule.Host != rewrite.HostKeep {
		shown.Rewrite = &api.Rewrite{
			StripPrefix: rule.Path.StripPrefix, ReplacePrefix: apiReplacement(rule.Path.ReplacePrefix),
			Regex: apiReplacement(rule.Path.Regex), Host: rule.Host.String(),
		}
		shown.Rewrite.SamplePath, shown.Rewrite.SampleUpstreamPath, _ = r.SampleRewrite()
	}
	shown.RequestHeaders, shown.ResponseHeaders = apiHeaders(&rule.Request), apiHeaders(&rule.Response)
}

func apiReplacement(r *rewrite.Replacement) *api.Replacement {
	if r == nil {
		return nil
	}
	return &api.Replacement{From: r.From, To: r.To}
}

func apiHeaders(h *rewrite.Headers) *api.HeaderChanges {
	if h.Empty() {
		return nil
	}
	return &api.HeaderChanges{Set: apiValues(h.Set), Add: apiValues(h.Add), Remove: h.Remove}
}

func apiValues(headers []rewrite.Header) map[string]string {
	values := make(map[string]string, len(headers))
	for _, header := range headers {
		values[header.Name] = header.Value
	}
	return values
}
