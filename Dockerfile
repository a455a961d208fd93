# The image holds one static binary, the certificate authorities and nothing to
# run a shell with. It runs as an unprivileged user.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
ARG COMMIT=
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" -o /image/usr/bin/tocsin ./cmd/tocsin
# Copied as trees, since a directory keeps its mode and owner only below the one
# that is copied.
RUN mkdir -p /image/tmp /image/etc/ssl/certs /own/tocsin \
 && chmod 1777 /image/tmp \
 && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
 && echo 'tocsin:x:65532:65532:Tocsin:/var/lib/tocsin:/sbin/nologin' > /image/etc/passwd \
 && echo 'tocsin:x:65532:' > /image/etc/group

FROM scratch
ARG VERSION=dev
ARG COMMIT=
ARG CREATED=
LABEL org.opencontainers.image.title="Tocsin" \
      org.opencontainers.image.description="Tells when a vulnerability feed changes what is known about container images" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="https://tocsin.dev/tocsin" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ /
COPY --from=build --chown=65532:65532 /own/ /var/lib/
ENV PATH=/usr/bin HOME=/var/lib/tocsin TOCSIN_DATA_DIR=/var/lib/tocsin TOCSIN_LISTEN=0.0.0.0:6060 TOCSIN_INTROSPECTION=0.0.0.0:8089 \
    TOCSIN_SERVER=http://127.0.0.1:6060
USER 65532:65532
VOLUME /var/lib/tocsin
EXPOSE 6060 8089
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/usr/bin/tocsin", "health"]
ENTRYPOINT ["/usr/bin/tocsin"]
CMD ["serve"]
